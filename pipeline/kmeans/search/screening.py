"""A search in two steps: int8 products leave a few candidates for each row, float32 products choose among them.

An int8 product is summed in int32, which is exact; its only errors are those of rounding the inputs, and they are
known. With a positive factor g for each column, X~ = X g and C~ = C / g,

    X~ = s (x' + e),   C~ = t c' + f    (x' and c' int8; s and t the steps; e and f what rounding and clipping left),
    X . C - |C|^2 / 2 = s t x' . c' - |C|^2 / 2 + s e . C~ + s x' . f.

|e . C~| is at most |e| |C~|, which differs from centroid to centroid; so a typical |e|, E, is raised on all of them.
Let n be |C|^2 / 2 - s E |C~| in units of s t, rounded, and S = x' . c' - n. By Cauchy and Schwarz a score is

    at most   s t S + A,   A = s |x'| max |f| + s max(|e| - E, 0) max |C~| + s t / 2,
    at least  s t S - B,   B = s |x'| max |f| + s (|e| + E) |C~| + s t / 2.

So a centroid with an S lower by more than (A + B) / (s t) than that of the row's highest S is not the nearest. With
the largest |C~| for all centroids a row had 4.7 candidates of 1000 on features of real speech, with each its own 2.8.
Norms are computed in float32 and enlarged by 2^-10, which covers gamma_D up to D = 4096; what the scaling of inputs
rounds is at most 2^-21 of |X~| |C~|.

Only products with candidates are computed in float32 (``torch.sparse.sampled_addmm``, in some order of summation, so
the bound of ``assignment`` holds for them). All other centroids are below a bound which counts as the second best.

Cost: for 4096 rows, D = 768 and K = 1000, on one thread of an EPYC with VNNI, the int8 product takes 15 ms, a float32
one 63 ms, 15,000 candidates 1 ms. Memory: 5 bytes a centroid for each of 1024 rows, 13 a value.
Shapes: n rows, D width, K clusters.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.kmeans.search.candidates import LIST_SIZE, Found, Lists, candidate_scores, choose, starts_of
from pipeline.kmeans.search.centred import Centred, Scratch, pieces

_SLACK = 1 + 2.0**-10
_MAX_DIM = 4096
_LARGEST = 127
# Wider steps are coarser for all, narrower ones clip more: of 3, 3.5, 4 and 5 deviations, 3.5 left fewest candidates
# on features of real speech.
_DEVIATIONS = 3.5
_LARGEST_UNITS = 1 << 29
# Centroids of a row that a list is chosen from: among 10, 12 and 16, 12 was fastest.
_CROWD = 12
# Rows whose scores lie in the caches at once. Of 256 to 8192, 1024 took least with two workers on a processor: half of
# 10^6 x 192, K = 500, 8 iterations, 7.9 s (8192: 8.9, 256: 9.0); half of 200,000 x 768, K = 1000, 6.7 (8192: 6.8).
_TILE_ROWS = 1024
# Far below any step that matters, and far enough above the smallest normal float.
_TINY = 2.0**-40


@functools.cache
def is_exact() -> bool:
    """Tell whether this processor multiplies int8 fast and exactly.

    Without VNNI instructions oneDNN adds two products in int16, which saturates.
    """
    import torch

    if not (torch.cpu._is_vnni_supported() and hasattr(torch, "_int_mm")):
        return False
    left = torch.full((32, 256), -128, dtype=torch.int8)
    left[::2] = 127
    right = left[:16].T.contiguous()
    wanted = left.to(torch.int64) @ right.to(torch.int64)
    return bool((torch._int_mm(left, right).to(torch.int64) == wanted).all())


def is_faster(num_clusters: int, dim: int) -> bool:
    """Tell whether two steps beat one: the first costs passes over rows and scores that small products do not repay.

    Args:
        num_clusters: K.
        dim: D.
    """
    return num_clusters >= 256 and dim >= 64 and can_screen(dim)


def can_screen(dim: int) -> bool:
    """Tell whether rows of D columns can be screened here."""
    return dim <= _MAX_DIM and is_exact()


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded:
    """Rows as the int8 product takes them, and what bounds its error.

    Attributes:
        values: Torch tensor, int8 (n, D), x' of the module docstring.
        step: s.
        usual: E.
        above: float64 (n,), A.
        kept: float64 (n,), s |x'| max |f| + s t / 2.
        lost: float64 (n,), |e|.
    """

    values: Any
    step: float
    usual: float
    above: np.ndarray
    kept: np.ndarray
    lost: np.ndarray

    def take(self, rows: np.ndarray, scratch: Scratch) -> "Rounded":
        """Give some rows; see ``centred.Rounding``."""
        import torch

        return Rounded(
            values=scratch.chosen("chosen int8", self.values, torch.from_numpy(rows)),
            step=self.step,
            usual=self.usual,
            above=self.above[rows],
            kept=self.kept[rows],
            lost=self.lost[rows],
        )


class _Candidates(NamedTuple):
    """What int8 products leave of n rows.

    Attributes:
        rows: int64 (p,), ascending, the row of each pair.
        columns: int64 (p,), its centroid.
        lower: int64 (p,), how far its S is below the row's highest.
        highest: int64 (n,), the highest S.
        needed: int64 (n,), how far below it candidates may be.
        depth: int64 (n,), how far below it the pairs are; more than needed where lists are made.
    """

    rows: np.ndarray
    columns: np.ndarray
    lower: np.ndarray
    highest: np.ndarray
    needed: np.ndarray
    depth: np.ndarray


class ScreenedSearch:
    """Finds the best two centroids of rows through int8 products; see ``candidates.Search``.

    Args:
        table: float32 (K, D), centred centroids.
        offsets: float32 (K,), minus half of their squared norms.
    """

    def __init__(self, table: np.ndarray, offsets: np.ndarray) -> None:
        import torch

        self._table, self._offsets = torch.from_numpy(table), torch.from_numpy(offsets)
        spread = torch.linalg.vector_norm(self._table, dim=0).numpy()
        # The root, because what one side gains by a factor the other loses: it divides the spread evenly.
        self._factors = np.maximum(spread, max(float(spread.max(initial=0)) / 256, _TINY)) ** np.float32(-0.5)
        scaled = self._table / torch.from_numpy(self._factors)
        self._step = float(np.float32(float(scaled.abs().max()) / _LARGEST or 1.0))
        rounded = torch.round(scaled / self._step).clamp_(-_LARGEST, _LARGEST)
        self._columns = rounded.to(torch.int8).T
        self._halves = -offsets.astype(np.float64)
        # The last terms are for what divisions by factors round, and for what they lose below the normal floats.
        self._norms = _norms(scaled) * _SLACK + 2.0**-100
        self._reach = float(self._norms.max())
        lost = _norms(scaled.sub_(rounded.mul_(self._step)))
        self._lost = float(lost.max()) * _SLACK + 2.0**-21 * self._reach + 2.0**-100
        self._depth: float | None = None
        self._some: tuple[np.ndarray, Any] | None = None

    def __call__(self, centred: Centred, with_lists: bool) -> Found:
        """Search; see ``candidates.Search``."""
        rounded = self._round(centred)
        unit = rounded.step * self._step
        found = self._candidates(centred, rounded, with_lists)
        rows, columns, lower, depth = found.rows, found.columns, found.lower, found.depth
        above, lists = rounded.above + centred.errors, None
        if with_lists:
            listed, sizes, depth = _best_columns(rows, columns, lower, depth)
            lists = Lists(columns=listed, sizes=sizes, outer=_score(unit, found.highest - depth, above))
            inner = np.flatnonzero(lower <= found.needed[rows])
            rows, columns = rows[inner], columns[inner]
        starts = starts_of(rows, len(depth))
        values = candidate_scores(centred, self._table, self._offsets, starts, columns)
        return choose(rows, starts, columns, values, _score(unit, found.highest - found.needed, above), lists)

    def _candidates(self, centred: Centred, rounded: Rounded, with_lists: bool) -> _Candidates:
        """Find the pairs that may matter, tile after tile of rows, so that scores never leave the cache."""
        unit, units = rounded.step * self._step, self._units(rounded)
        # Four errors keep the bound of all others so far below the best that float32 can tell them apart.
        wanted = rounded.above + rounded.kept + 4 * centred.errors
        loosely = _SLACK * rounded.step * (rounded.lost + rounded.usual)
        made = []
        for begin in range(0, len(wanted), _TILE_ROWS):
            tile = slice(begin, begin + _TILE_ROWS)
            scores = self._scores(rounded.values[tile], self._columns, units, centred.scratch).numpy()
            likely = scores.argmax(axis=1)
            highest = scores[np.arange(len(likely)), likely].astype(np.int64)
            needed = depth = _in_units(wanted[tile] + loosely[tile] * self._norms[likely], unit)
            if with_lists:
                depth = np.maximum(needed, self._list_depth(scores, unit))
            near = centred.scratch.take("near", len(scores), scores.shape[1], "bool").numpy()
            np.greater_equal(scores, (highest - depth).astype(np.int32)[:, None], out=near)
            pairs = np.flatnonzero(near)
            rows, columns = np.divmod(pairs, len(units))
            lower = highest[rows] - scores.reshape(-1)[pairs]
            made.append((rows + begin, columns, lower, highest, needed, depth))
        return _Candidates(*(np.concatenate(each) for each in zip(*made, strict=True)))

    def highest(self, centred: Centred, some: np.ndarray, listed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Bound the scores of some centroids; see ``candidates.Search``."""
        import torch

        if self._some is None or self._some[0] is not some:
            self._some = some, self._columns.T[torch.from_numpy(some)].T
        rounded = self._round(centred)
        scores = self._scores(rounded.values, self._some[1], self._units(rounded)[some], centred.scratch).numpy()
        scores[listed] = np.iinfo(np.int32).min
        highest = scores.max(axis=1).astype(np.int64)
        return _score(rounded.step * self._step, highest, rounded.above + centred.errors)

    def _scores(self, values: Any, columns: Any, units: np.ndarray, scratch: Scratch) -> Any:
        """Give S of the module docstring, int32 (n, number of columns)."""
        import torch

        scores = scratch.take("scores", values.shape[0], len(units), "int32")
        return torch._int_mm(values, columns, out=scores).sub_(torch.from_numpy(units))

    def _units(self, rounded: Rounded) -> np.ndarray:
        """Give n of the module docstring for each centroid, int32 (K,)."""
        offsets = self._halves - rounded.step * rounded.usual * self._norms
        units: np.ndarray = np.rint(offsets / (rounded.step * self._step)).astype(np.int32)
        return units

    def _list_depth(self, scores: np.ndarray, unit: float) -> int:
        """Give how far below the best the centroids of a list begin, so that half of the rows have enough.

        Measured on some of the first rows of a table: on all rows it would cost more than the search.
        """
        if scores.shape[1] <= LIST_SIZE:
            return _LARGEST_UNITS
        if self._depth is None:
            some = scores[:: max(1, len(scores) // 64)].astype(np.int64)
            lower = (some.max(axis=1, keepdims=True) - some).reshape(-1)
            self._depth = unit * float(np.partition(lower, _CROWD * len(some))[_CROWD * len(some)])
        return min(int(self._depth / unit), _LARGEST_UNITS)

    def _round(self, centred: Centred) -> Rounded:
        """Round rows to int8, or give what was made of them before."""
        import torch

        if isinstance(centred.rounding, Rounded):
            return centred.rounding
        rows, scratch = centred.rows, centred.scratch
        # Some 32 rows tell the spread well enough; a step changes the work, never the result.
        some = rows[:: max(1, rows.shape[0] // 32)].square().mean(dim=0).sqrt_().numpy()
        spread = float((some * self._factors).max())
        least = float(self._halves.max()) / self._step / _LARGEST_UNITS
        inverse = np.float32(1 / max(_DEVIATIONS * spread / _LARGEST, least, _TINY))
        step = 1 / float(inverse)
        values = scratch.take("int8", rows.shape[0], rows.shape[1], "int8")
        kept, lost = torch.empty(rows.shape[0]), torch.empty(rows.shape[0])
        factors = torch.from_numpy(self._factors * inverse)
        for piece in pieces(rows.shape[0], rows.shape[1]):
            size = piece.stop - piece.start, rows.shape[1]
            scaled = torch.mul(rows[piece], factors, out=scratch.take("scaled", *size, "float32"))
            whole = torch.round(scaled, out=scratch.take("whole", *size, "float32")).clamp_(-_LARGEST, _LARGEST)
            values[piece].copy_(whole)
            torch.linalg.vector_norm(whole, dim=1, out=kept[piece])
            torch.linalg.vector_norm(scaled.sub_(whole), dim=1, out=lost[piece])
        centred.rounding = self._bounds(values, kept.double().numpy(), lost.double().numpy(), step)
        return centred.rounding

    def _bounds(self, values: Any, kept: np.ndarray, lost: np.ndarray, step: float) -> Rounded:
        """Bound what rounding may change, from |x'| and |e|, float64 (n,)."""
        # What scaling rounded, and what is lost below the normal floats.
        lost = _SLACK * (lost + 2.0**-21 * (kept + lost) + 2.0**-20)
        # The products stay below 2^28, so that no integer leaves its range.
        usual = min(float(np.median(lost)), 2.0**28 * self._step / self._reach)
        kept = _SLACK * step * kept * self._lost + step * self._step / 2
        above = kept + _SLACK * step * np.maximum(lost - usual, 0) * self._reach
        return Rounded(values=values, step=step, usual=usual, above=above, kept=kept, lost=lost)


def _best_columns(
    rows: np.ndarray, columns: np.ndarray, lower: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the best pairs of each row for its list.

    Args:
        rows: int64 (p,), ascending; every row from 0 to n - 1 occurs.
        columns: int64 (p,).
        lower: int64 (p,), how far below the highest S of the row they are.
        depth: int64 (n,), how far below it those are that have no pair.

    Returns:
        Columns uint16 (n, LIST_SIZE), sizes uint8 (n,), and int64 (n,) how far those are that are not listed.
    """
    # 18 bits for rows, 30 for S, 16 for columns. They are in the order of rows already: this sort takes 0.06 ms for
    # 20,000 pairs, the default one 0.6 ms.
    keys = np.sort(rows << 46 | lower << 16 | columns, kind="stable")
    starts = starts_of(rows, len(depth))
    rank = np.arange(len(keys)) - starts[rows]
    kept = np.flatnonzero(rank < LIST_SIZE)
    listed = np.zeros((len(depth), LIST_SIZE), np.uint16)
    listed[rows[kept], rank[kept]] = keys[kept] & 0xFFFF
    sizes = np.diff(starts)
    crowded = np.flatnonzero(sizes > LIST_SIZE)
    reached = depth.copy()
    reached[crowded] = keys[starts[crowded] + LIST_SIZE] >> 16 & (1 << 30) - 1
    return listed, np.minimum(sizes, LIST_SIZE).astype(np.uint8), reached


def _in_units(scores: np.ndarray, unit: float) -> np.ndarray:
    """Give differences of scores in units, int64 (n,), rounded up; at most ``_LARGEST_UNITS``."""
    units: np.ndarray = np.minimum(np.ceil(scores / unit) + 1, _LARGEST_UNITS).astype(np.int64)
    return units


def _score(unit: float, units: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Bound scores by S, float32 (n,); the error of a float32 score in ``above`` covers the last rounding."""
    scores: np.ndarray = (unit * units + above).astype(np.float32)
    return scores


def _norms(values: Any) -> np.ndarray:
    """Give the norm of each row of a tensor, float64 (n,), computed in the type of the values."""
    import torch

    norms: np.ndarray = torch.linalg.vector_norm(values, dim=1).double().numpy()
    return norms
