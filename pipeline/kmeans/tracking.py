"""Tokens of rows from one Lloyd iteration to the next, exact, and searched for only where they may have changed.

For each row it keeps its token, an upper bound of the distance to its centroid, a lower bound of the distance to every
other, a short list of the nearest centroids, and a lower bound of the distance to those not listed. A distance changes
by no more than its centroid moved; so a row is settled

1. by its bounds, if the upper one is still below the lower one: nothing is computed;
2. by its list, if float32 scores of the listed centroids leave the best certainly nearer than all others;
3. by a search of all centroids, which makes a new list.

A few centroids of small clusters move much farther than the rest. Step 2 computes the scores of these movers for every
row that it looks at, so that bounds fall only by what the others moved; a row near a mover is searched.

Whatever float32 cannot tell apart is decided exactly, as in ``assignment``, so tokens are those of a plain search.
Bounds are rounded outwards. Lists are widened while centroids move little, so that they last.

Source: J. Drake and G. Hamerly, "Accelerated k-means with adaptive distance bounds", NIPS OPT workshop 2012, keep one
bound for each listed centroid; here one for all others, and the list is computed again. Step 1: G. Hamerly, "Making
k-means even faster", SDM 2010. Movers are ours. Memory: 49 bytes a row. Shapes: n rows, D width, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.kmeans.assignment import Centred, CentroidTable
from pipeline.kmeans.candidates import LIST_SIZE, Found

BYTES_PER_ROW = 4 + 3 * 4 + 2 * LIST_SIZE + 1

# A list that is to last holds what may come nearest while centroids move this many times as far as just now.
_LASTING = 2.0
# One in so many centroids may be a mover, at a 32nd of a search's products.
_MOVERS = 32
# Movers pay when the farthest of them moved so many times as far as all others.
_FAR = 1.3


@dataclass
class Work:
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

    def __add__(self, other: "Work") -> "Work":
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class Tracker:
    """The tokens of n rows under centroids that move.

    Args:
        num_rows: n.
    """

    def __init__(self, num_rows: int) -> None:
        self.tokens = np.full(num_rows, -1, np.int32)
        self._upper = np.full(num_rows, np.inf, np.float32)
        self._lower = np.zeros(num_rows, np.float32)
        self._outer = np.zeros(num_rows, np.float32)
        self._lists = np.zeros((num_rows, LIST_SIZE), np.uint16)
        self._sizes = np.zeros(num_rows, np.uint8)
        self._table: CentroidTable | None = None
        self._drift = np.zeros(0)
        self._others = np.inf
        self._mover_scores: Callable[[Centred], np.ndarray] | None = None
        self.work = Work()

    def move(self, table: CentroidTable) -> None:
        """Take new centroids; ``assign`` must then be called for every row before the next move.

        Args:
            table: As many centroids as before, each the successor of the one before it.
        """
        self._drift, self._others, self._mover_scores = np.zeros(len(table.centroids)), np.inf, None
        if self._table is not None:
            moved = table.centroids.astype(np.float64) - self._table.centroids
            self._drift = np.sqrt(np.einsum("kd,kd->k", moved, moved)) * (1 + 2.0**-40)
            order = np.argsort(self._drift, kind="stable")
            most = len(order) - len(order) // _MOVERS
            self._others = float(self._drift[order[-1]])
            if self._others > _FAR * self._drift[order[most - 1]]:
                self._others = float(self._drift[order[most - 1]])
                self._mover_scores = table.highest_scores(order[most:])
        self._table = table
        self.work = Work()

    def assign(self, begin: int, block: np.ndarray) -> np.ndarray:
        """Give the tokens of a block of rows before the move, int32 (n,); ``tokens`` has the new ones.

        Args:
            begin: Number of the first row.
            block: float16 (n, D), finite, the same rows at every call.
        """
        assert self._table is not None
        place = slice(begin, begin + len(block))
        before = self.tokens[place].copy()
        upper = _up(self._upper[place].astype(np.float64) + self._drift[before])
        sure = upper < _lowered(self._lower[place], self._drift.max())
        fallen = np.where(sure, self._drift.max(), min(self._others, self._drift.max()))
        self._upper[place] = upper
        self._lower[place] = _lowered(self._lower[place], fallen)
        self._outer[place] = _lowered(self._outer[place], fallen)
        unsure = np.flatnonzero(~sure)
        listed = unsure[self._sizes[begin + unsure] > 0]
        failed = self._use_lists(begin, block, listed)
        searched = np.sort(np.concatenate([unsure[self._sizes[begin + unsure] == 0], failed]))
        self._search(begin, block, searched)
        changed = int((self.tokens[place] != before).sum())
        self.work += Work(
            by_bounds=len(block) - len(unsure),
            by_list=len(listed) - len(failed),
            by_search=len(searched),
            changed=changed,
        )
        return before

    def _use_lists(self, begin: int, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Settle rows by their lists; give those that need a search."""
        if not len(rows):
            return rows
        assert self._table is not None
        some = block[rows]
        centred = self._table.centre(some)
        places = np.flatnonzero(np.arange(LIST_SIZE) < self._sizes[begin + rows, None])
        columns = self._lists[begin + rows].ravel()[places].astype(np.int64)
        outer_distances = np.maximum(self._outer[begin + rows], 0).astype(np.float64)
        # A score is half of |x - m|^2 - |x - c|^2.
        outer = _up((centred.squares * (1 + _gamma(some)) - outer_distances**2) / 2)
        if self._mover_scores is not None:
            outer = np.maximum(outer, self._mover_scores(centred))
        found = self._table.compare(centred, places // LIST_SIZE, columns, outer)
        certain = found.best.astype(np.float64) - outer > 2 * centred.errors
        kept = np.flatnonzero(certain)
        self._settle(begin + rows[kept], some[kept], centred.squares[kept], centred.errors[kept], found.take(kept))
        failed: np.ndarray = rows[~certain]
        return failed

    def _search(self, begin: int, block: np.ndarray, rows: np.ndarray) -> None:
        """Search rows among all centroids and make their lists."""
        if not len(rows):
            return
        assert self._table is not None
        some = block[rows]
        centred = self._table.centre(some)
        places = begin + rows
        width: np.ndarray | float = 0.0
        if np.isfinite(self._others):
            upper = self._upper[places].astype(np.float64)
            width = _LASTING * self._others * np.where(np.isfinite(upper), upper, 0.0)
        found = self._table.find(centred, width=width)
        self._settle(places, some, centred.squares, centred.errors, found)
        self._outer[places] = _distances_below(found.outer, centred.squares, centred.errors, _gamma(some))
        # A list that centroids outrun in their next move is not worth its making.
        lasting = np.flatnonzero(self._outer[places] - self._upper[places] > self._others)
        self._sizes[places] = 0
        if len(lasting):
            kept = found.take(lasting)
            outer = self._list(places[lasting], kept)
            self._outer[places[lasting]] = _distances_below(
                outer, centred.squares[lasting], centred.errors[lasting], _gamma(some)
            )

    def _list(self, rows: np.ndarray, found: Found) -> np.ndarray:
        """Keep the candidates of each row; give the highest score of all others, float32 (n,).

        Where they are too many, those of the upper half of scores are kept, and none where these are too many still:
        to choose the best ones would cost more than the search.
        """
        crowded = np.bincount(found.rows, minlength=len(rows)) > LIST_SIZE
        outer = np.where(crowded, np.maximum(found.outer, (found.best + found.outer) / 2), found.outer)
        keep = ~crowded[found.rows] | (found.scores >= outer[found.rows])
        sizes = np.bincount(found.rows[keep], minlength=len(rows))
        sizes[sizes > LIST_SIZE] = 0
        kept = np.flatnonzero(keep & (sizes[found.rows] > 0))
        starts = np.cumsum(sizes) - sizes
        owners = found.rows[kept]
        self._lists[rows[owners], np.arange(len(kept)) - starts[owners]] = found.columns[kept]
        self._sizes[rows] = sizes
        return outer

    def _settle(
        self, rows: np.ndarray, features: np.ndarray, squares: np.ndarray, errors: np.ndarray, found: Found
    ) -> None:
        """Store the exact tokens and the bounds of rows."""
        assert self._table is not None
        gamma = _gamma(features)
        close = self._table.decide(features, found, errors)
        self.tokens[rows] = found.tokens
        highest = squares * (1 + gamma) - 2 * found.best.astype(np.float64) + 2 * errors
        self._upper[rows] = _up(np.sqrt(np.maximum(highest, 0)))
        # The best by score may not be the token.
        self._upper[rows[close]] = np.inf
        self._lower[rows] = _distances_below(found.second, squares, errors, gamma)
        self.work += Work(by_float64=len(close))


def _lowered(bounds: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    return _down(bounds.astype(np.float64) - by)


def _distances_below(scores: np.ndarray, squares: np.ndarray, errors: np.ndarray, gamma: float) -> np.ndarray:
    """Give lower bounds of the distances of centroids whose float32 scores are at most these, float32 (n,)."""
    lowest = squares * (1 - gamma) - 2 * scores.astype(np.float64) - 2 * errors
    return _down(np.sqrt(np.maximum(lowest, 0)))


def _gamma(features: np.ndarray) -> float:
    """Bound the relative error of the squared norms that ``CentroidTable.centre`` gives."""
    return float(features.shape[1] + 8) * 2.0**-23


def _up(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return rounded


def _down(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.nextafter(values.astype(np.float32), np.float32(-np.inf))
    return rounded
