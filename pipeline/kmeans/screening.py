"""A search in two steps: int8 products leave a few candidates for each row, float32 products choose among them.

An int8 product is summed in int32, which is exact; its only errors are those of rounding the inputs, and they are
known. With a positive factor g for each column, X~ = X g and C~ = C / g,

    X~ = s x' + e,   C~ = t c' + f      (x' and c' int8; s and t the steps; e and f what rounding and clipping left),
    X . C - |C|^2 / 2 = s t (x' . c' - n) + e . C~ + s x' . f + r,

n being |C|^2 / 2 in units of s t, rounded, so |r| <= s t / 2. By Cauchy and Schwarz a score lies within

    B = |e| max |C~| + s |x'| max |f| + s t / 2

of s t (x' . c' - n). A centroid whose integer is lower than the row's highest by more than 2 B is not the nearest.
Norms are computed in float32 and enlarged by 2^-10, which covers gamma_D up to D = 4096; what the scaling of inputs
rounds is at most 2^-20 of |X~| |C~|.

Only products with candidates are computed in float32 (``torch.sparse.sampled_addmm``, in some order of summation, so
the bound of ``assignment`` holds for them). All other centroids are below a bound which counts as the second best.

Cost: for 4096 rows, D = 768 and K = 1000, on one thread of an EPYC with VNNI, the int8 product takes 15 ms, a float32
one 63 ms, 15,000 candidates 1 ms. Memory: 5 bytes a row and centroid, 9 a value. Shapes: n rows, D width, K clusters.
"""

import functools
import warnings
from typing import Any

import numpy as np

from pipeline.kmeans.candidates import LIST_SIZE, Found, choose

_SLACK = 1 + 2.0**-10
_MAX_DIM = 4096
_LARGEST = 127
# Wider steps are coarser for all, narrower ones clip more: among 3, 4 and 6, 4 left fewest candidates on features of
# real speech (3.3 to 3.9 a row of 500).
_DEVIATIONS = 4.0
_LARGEST_UNITS = 1 << 29


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
    return num_clusters >= 256 and 64 <= dim <= _MAX_DIM and is_exact()


class ScreenedSearch:
    """Finds the best two centroids of rows through int8 products; see ``candidates.Search``.

    Args:
        table: float32 (K, D + 1), centred centroids and minus half of their squared norms.
    """

    def __init__(self, table: np.ndarray) -> None:
        import torch

        self._table = table
        centred, halves = table[:, :-1], -table[:, -1].astype(np.float64)
        spread = np.sqrt(np.einsum("kd,kd->d", centred, centred, dtype=np.float64))
        # The root, because what one side gains by a factor the other loses: it divides the spread evenly.
        floor = spread.max(initial=0) / 256 or 1.0
        self._factors = (np.maximum(spread, floor) ** -0.5).astype(np.float32)
        scaled = centred / self._factors
        self._step = float(np.abs(scaled).max(initial=0)) / _LARGEST or 1.0
        rounded = np.rint(scaled / np.float32(self._step)).clip(-_LARGEST, _LARGEST)
        self._rounded = torch.from_numpy(rounded.astype(np.int8)).T
        self._halves = halves / self._step
        lost = scaled.astype(np.float64) - rounded.astype(np.float64) * self._step
        self._reach = float(_norms(scaled.astype(np.float64)).max()) * _SLACK
        self._lost = float(_norms(lost).max()) * _SLACK + 2.0**-22 * self._reach

    def __call__(self, rows: np.ndarray, errors: np.ndarray, width: np.ndarray | float) -> Found:
        """Search; see ``candidates.Search``."""
        import torch

        rounded, step, bound = self._round(torch.from_numpy(rows))
        unit = step * self._step
        halves = torch.from_numpy(np.rint(self._halves / step).astype(np.int32))
        scores = torch._int_mm(rounded, self._rounded).sub_(halves)
        highest = scores.amax(dim=1).numpy().astype(np.int64)
        # Four errors keep the bound of all others so far below the best that float32 can tell them apart.
        reach = np.maximum(2 * bound + 4 * errors, _affordable(width, unit, scores, highest))
        depth = np.minimum(np.ceil(reach / unit) + 1, _LARGEST_UNITS).astype(np.int64)
        near = np.flatnonzero(scores.numpy() >= (highest - depth).astype(np.int32)[:, None])
        found_rows, columns = np.divmod(near, len(self._halves))
        outer = (unit * (highest - depth) + bound + errors).astype(np.float32)
        values = candidate_scores(rows, self._table, found_rows, columns)
        return choose(found_rows, columns, values, outer)

    def _round(self, centred: Any) -> tuple[Any, float, np.ndarray]:
        """Give x' int8 (n, D), the step s, and the bound B float64 (n,) of the module docstring."""
        import torch

        factors = torch.from_numpy(self._factors)
        # Every 16th row tells the spread well enough; a step changes the work, never the result.
        some = (centred[::16] * factors).double()
        spread = float(some.square_().mean(dim=0).amax()) ** 0.5
        least = float(self._halves.max(initial=0)) / _LARGEST_UNITS
        step = max(_DEVIATIONS * spread / _LARGEST, least) or 1.0
        scaled = centred * (factors / step)
        rounded = scaled.round().clamp_(-_LARGEST, _LARGEST)
        scaled.sub_(rounded)
        kept, lost = (torch.linalg.vector_norm(part, dim=1).double().numpy() for part in (rounded, scaled))
        # What scaling rounded, and what is lost below the normal floats.
        lost += 2.0**-20 * (kept + lost) + 2.0**-20
        bound: np.ndarray = _SLACK * step * (lost * self._reach + kept * self._lost) + step * self._step / 2
        return rounded.to(torch.int8), step, bound


def _affordable(width: np.ndarray | float, unit: float, scores: Any, highest: np.ndarray) -> np.ndarray | float:
    """Narrow a wish for candidates to what most rows have room for; to none where a third of it is beyond that."""
    if not np.any(width) or scores.shape[1] <= LIST_SIZE:
        return width
    some = scores.numpy()[:: max(1, len(highest) // 16)]
    usual = LIST_SIZE // 2
    last = np.partition(some, -usual, axis=1)[:, -usual]
    limit = unit * float(np.median(some.max(axis=1) - last.astype(np.int64)))
    return np.where(np.multiply(width, 1 / 3) <= limit, np.minimum(width, limit), 0.0)


def candidate_scores(rows: np.ndarray, table: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Compute the scores of chosen pairs of rows and centroids in float32.

    Args:
        rows: float32 (n, D), centred.
        table: float32 (K, D + 1), centred centroids and minus half of their squared norms.
        row: int64 (p,), ascending.
        column: int64 (p,).

    Returns:
        float32 (p,).
    """
    import torch

    with warnings.catch_warnings():
        # Torch calls its compressed rows beta.
        warnings.simplefilter("ignore", UserWarning)
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(np.searchsorted(row, np.arange(len(rows) + 1))),
            torch.from_numpy(column),
            torch.zeros(len(column)),
            size=(len(rows), len(table)),
        )
    centroids = torch.from_numpy(table)[:, :-1]
    found = torch.sparse.sampled_addmm(wanted, torch.from_numpy(rows), centroids.T)
    scores: np.ndarray = found.values().numpy()
    scores += table[column, -1]
    return scores


def _norms(values: np.ndarray) -> np.ndarray:
    """Give the norm of each row, float64 (n,), from a sum of squares in the type of the values."""
    with np.errstate(over="ignore"):
        norms: np.ndarray = np.sqrt(np.einsum("nd,nd->n", values, values).astype(np.float64))
    return norms
