"""Tokens of rows from one Lloyd iteration to the next, exact, and searched for only where they may have changed.

For each row it keeps its token, an upper bound of the distance to its centroid, a lower bound of the distance to every
other, a short list of near centroids, and a lower bound of the distance to those not listed. A distance changes by no
more than its centroid moved; so a row is settled

1. by its bounds, if the upper one is still below the lower one: nothing is computed;
2. by its list, if float32 scores of the listed centroids leave the best certainly nearer than all others;
3. by a search of all centroids, which makes a new list.

Some centroids move much farther than the rest, those of small clusters above all. Step 2 bounds the scores of these
movers anew for every row that it looks at, as a search would, so that the bound of those not listed falls only by what
the others moved, or to where a mover now is. How many movers there are, and whether step 2 is taken at all, is
decided at each move by what is likely to cost least.

Whatever float32 cannot tell apart is decided exactly, as in ``assignment``, so tokens are those of a plain search.
Bounds are rounded outwards.

Source: J. Drake and G. Hamerly, "Accelerated k-means with adaptive distance bounds", NIPS OPT workshop 2012, keep one
bound for each listed centroid; here one for all others, and the list is computed again. Step 1: G. Hamerly, "Making
k-means even faster", SDM 2010. Movers are ours. Memory: 33 bytes a row.
Shapes: n rows, D width, K clusters.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.kmeans.search.assignment import CentroidTable
from pipeline.kmeans.search.candidates import LIST_SIZE, Found
from pipeline.kmeans.search.centred import Centred, Scratch

BYTES_PER_ROW = 4 + 3 * 4 + 2 * LIST_SIZE + 1

# Shares of the centroids that may be movers.
_MOVERS = (0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
# What step 2 costs without movers, as a share of a search.
_LIST_COST = 0.35
# With fewer centroids a search costs less than a list: 100 to 255, 44,000 rows of 192 columns, were found a tenth to a
# fifth faster without lists, 256 and 500 a quarter faster with them.
_FEWEST_FOR_LISTS = 256
# Rows that tell how many lists will fail.
_SAMPLE = 2048


@dataclass
class SearchWork:
    """Rows of an iteration by what settled them.

    Attributes:
        by_bounds: Rows whose bounds showed that the token stays.
        by_list: Rows settled by the centroids of their list.
        by_search: Rows searched among all centroids.
        by_float64: Rows of the last two that float32 could not decide.
        changed: Rows with another token than before.
    """

    by_bounds: int = 0
    by_list: int = 0
    by_search: int = 0
    by_float64: int = 0
    changed: int = 0

    def __add__(self, other: "SearchWork") -> "SearchWork":
        return SearchWork(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class Tracker:
    """The tokens of n rows under centroids that move.

    Args:
        num_rows: n.
        engine: See ``assignment.nearest``; it changes the speed, never a token.
    """

    def __init__(self, num_rows: int, *, engine: str = "auto") -> None:
        self.tokens = np.full(num_rows, -1, np.int32)
        self._engine = engine
        self._upper = np.full(num_rows, np.inf, np.float32)
        self._lower = np.zeros(num_rows, np.float32)
        self._outer = np.zeros(num_rows, np.float32)
        self._lists = np.zeros((num_rows, LIST_SIZE), np.uint16)
        self._sizes = np.zeros(num_rows, np.uint8)
        self._scratch = Scratch()
        self._table: CentroidTable | None = None
        self._drift = np.zeros(0)
        self._farthest = self._others = 0.0
        self._movers = np.zeros(0, np.int64)
        self._number = np.zeros(0, np.int16)
        self._moves, self._use_lists = 0, False
        self.work = SearchWork()

    def move(self, table: CentroidTable) -> None:
        """Take new centroids; ``assign`` must then be called for every row before the next move.

        Args:
            table: As many centroids as before, each the successor of the one before it.
        """
        num_clusters = len(table.centroids)
        self._drift = np.zeros(num_clusters)
        if self._table is not None:
            self._drift = _distances_above(table.centroids - self._table.centroids)
        order = np.argsort(self._drift, kind="stable")
        self._farthest = float(self._drift[order[-1]])
        self._table = table
        self._moves += 1
        self._plan(order)
        self.work = SearchWork()

    def _plan(self, order: np.ndarray) -> None:
        """Choose the movers, from centroids in the order of how far they moved, and whether to use lists."""
        rows = slice(None, None, max(1, len(self.tokens) // _SAMPLE))
        # What a list has to bear; a row that was never searched bears nothing.
        room = np.sort(self._outer[rows] - self._upper[rows])
        plans = []
        for share in _MOVERS:
            num_movers = int(share * len(order))
            others = float(self._drift[order[len(order) - num_movers - 1]])
            failing = np.searchsorted(room, others, side="right") / max(1, len(room))
            plans.append((_LIST_COST + num_movers / len(order) + failing, num_movers, others))
        cost, num_movers, self._others = min(plans)
        self._use_lists = len(order) >= _FEWEST_FOR_LISTS and bool(cost < 1)
        self._movers = np.sort(order[len(order) - num_movers :])
        self._number = np.full(len(order), -1)
        self._number[self._movers] = np.arange(num_movers)

    def assign(self, begin: int, block: np.ndarray) -> np.ndarray:
        """Give the tokens of a block of rows before the move, int32 (n,); ``tokens`` has the new ones.

        Args:
            begin: Number of the first row.
            block: float16 (n, D), finite, the same rows at every call.
        """
        assert self._table is not None
        before = self.tokens[begin : begin + len(block)].copy()
        size = self._table.block_rows
        for start in range(0, len(block), size):
            self._assign(begin + start, block[start : start + size])
        self.work.changed += int((self.tokens[begin : begin + len(block)] != before).sum())
        return before

    def _assign(self, begin: int, block: np.ndarray) -> None:
        assert self._table is not None
        place = slice(begin, begin + len(block))
        upper = _up(self._upper[place] + self._drift[self.tokens[place]])
        sure = upper < _down(self._lower[place] - self._farthest)
        # Rows that are sure do not look where the movers went.
        fallen = np.where(sure, self._farthest, self._others)
        self._upper[place] = upper
        self._lower[place] = _down(self._lower[place] - fallen)
        self._outer[place] = _down(self._outer[place] - fallen)
        unsure = np.flatnonzero(~sure)
        self.work.by_bounds += len(block) - len(unsure)
        if not len(unsure):
            return
        centred = self._table.centre(block if len(unsure) == len(block) else block[unsure], self._scratch)
        failed = self._settle_by_lists(begin + unsure, centred) if self._use_lists else np.arange(len(unsure))
        self.work.by_list += len(unsure) - len(failed)
        self.work.by_search += len(failed)
        if len(failed):
            self._search(begin + unsure[failed], centred.take(failed))

    def _settle_by_lists(self, rows: np.ndarray, centred: Centred) -> np.ndarray:
        """Settle rows by their lists; give the numbers among them of those that need a search."""
        assert self._table is not None
        lists = self._lists[rows]
        pairs = np.flatnonzero(np.arange(LIST_SIZE) < self._sizes[rows, None])
        owners, columns = pairs // LIST_SIZE, lists.reshape(-1)[pairs].astype(np.int64)
        outer_distances = np.maximum(self._outer[rows], 0).astype(np.float64)
        # A score is half of |x - m|^2 - |x - c|^2.
        outer = _up((centred.squares * (1 + _gamma(centred)) - outer_distances**2) / 2)
        if len(self._movers):
            numbers = self._number[columns]
            known = np.flatnonzero(numbers >= 0)
            highest = self._table.highest(centred, self._movers, (owners[known], numbers[known]), engine=self._engine)
            outer = np.maximum(outer, highest)
            self._outer[rows] = np.minimum(self._outer[rows], _distances_below(highest, centred))
        found = self._table.compare(centred, owners, columns, outer)
        certain = found.best.astype(np.float64) - outer > 2 * centred.errors
        self._settle(rows, centred, found, certain)
        return np.flatnonzero(~certain)

    def _search(self, rows: np.ndarray, centred: Centred) -> None:
        """Search rows among all centroids and make their lists."""
        assert self._table is not None
        found = self._table.find(centred, engine=self._engine, with_lists=self._moves > 1)
        self._settle(rows, centred, found, np.ones(len(rows), bool))
        if found.lists is not None:
            self._lists[rows], self._sizes[rows] = found.lists.columns, found.lists.sizes
            self._outer[rows] = _distances_below(found.lists.outer, centred)
        else:
            self._lists[rows, 0], self._sizes[rows] = found.tokens, 1
            self._outer[rows] = self._lower[rows]

    def _settle(self, rows: np.ndarray, centred: Centred, found: Found, certain: np.ndarray) -> None:
        """Store the exact tokens and the bounds of those rows that are certain.

        Where the token may not be the best by score, the scores of both are within their errors, and so the upper
        bound is at least the lower one: such a row is looked at again at the next move.
        """
        assert self._table is not None
        close = self._table.decide(centred, found, certain)
        highest = centred.squares * (1 + _gamma(centred)) - 2 * found.best.astype(np.float64) + 2 * centred.errors
        upper = _up(np.sqrt(np.maximum(highest, 0)))
        lower = _distances_below(found.second, centred)
        kept = rows[certain]
        self.tokens[kept] = found.tokens[certain]
        self._upper[kept] = upper[certain]
        self._lower[kept] = lower[certain]
        self.work.by_float64 += len(close)


def _distances_above(differences: np.ndarray) -> np.ndarray:
    """Give upper bounds of the norms of rounded differences, float32 (K, D), as float64 (K,).

    D 2^-22 covers what sums of D squares round, 2^-50 what is lost below the normal floats.
    """
    import torch

    norms: np.ndarray = torch.linalg.vector_norm(torch.from_numpy(differences), dim=1).double().numpy()
    above: np.ndarray = norms * (1 + differences.shape[1] * 2.0**-22) + 2.0**-50
    return above


def _distances_below(scores: np.ndarray, centred: Centred) -> np.ndarray:
    """Give lower bounds of the distances of centroids whose float32 scores are at most these, float32 (n,)."""
    lowest = centred.squares * (1 - _gamma(centred)) - 2 * scores.astype(np.float64) - 2 * centred.errors
    return _down(np.sqrt(np.maximum(lowest, 0)))


def _gamma(centred: Centred) -> float:
    """Bound the relative error of the squared norms that ``CentroidTable.centre`` gives."""
    return float(centred.rows.shape[1] + 8) * 2.0**-23


def _up(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return rounded


def _down(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.nextafter(values.astype(np.float32), np.float32(-np.inf))
    return rounded
