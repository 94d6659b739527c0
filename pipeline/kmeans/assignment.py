"""The exact nearest centroid: whatever engine, block size, threads or CPU, the same token.

An engine gives the two smallest squared distances of a row in float32. Where they differ by more than twice the
error bound, the order is certain. The other rows are decided again in float64 with its bound, and what that leaves
open with integers of any length. Cost: one float32 matrix product, 2 N K D operations, and a few percent for the rows
decided again; memory: one block of rows.

The bound. Let u be half the spacing of floats at 1 (2^-24 or 2^-53) and gamma_n = n u / (1 - n u). A dot product of
length D, summed in any order, with or without fused multiply-add, errs by at most gamma_D |x|.|c|, which is at most
gamma_D ||x|| ||c||. So ||x||^2 - 2 x.c + ||c||^2, three dot products and three further roundings of values below
(||x|| + ||c||)^2, errs by at most gamma_(D+4) (||x|| + ||c||)^2. Products that underflow add at most the smallest
normal float each. Clamping at zero, which faiss does, moves no value away from the truth.

Source: N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, section 3.1 (dot products).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.errors import SettingsError

BLOCK_ROWS = 8_192

TopTwo = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Tokens of some rows.

    Attributes:
        tokens: int32 (N,), the nearest centroid of each row; of equally near ones the lowest.
        num_close: Rows that float32 could not decide.
    """

    tokens: np.ndarray
    num_close: int


def nearest(
    features: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", block_rows: int = BLOCK_ROWS
) -> Nearest:
    """Find the nearest centroid of every row, exactly.

    Args:
        features: float16 (N, D), finite.
        centroids: float32 (K, D), finite.
        engine: ``faiss``, ``torch``, or ``auto`` for faiss where it is installed; none changes a token.
        block_rows: Rows at a time; bounds the memory, changes no token.

    Raises:
        ValueError: Shapes or types are not these, or a value is not finite.
        SettingsError: The engine is unknown or not installed.
    """
    _check(features, centroids)
    top_two = _engine(engine)
    tokens = np.zeros(len(features), np.int32)
    if len(centroids) == 1:
        return Nearest(tokens=tokens, num_close=0)
    wide_KD = centroids.astype(np.float64)
    norms_K = np.sqrt((wide_KD**2).sum(axis=1))
    reach = float(norms_K.max())
    num_close = 0
    for begin in range(0, len(features), block_rows):
        rows_ND = features[begin : begin + block_rows].astype(np.float32)
        if not np.isfinite(rows_ND).all():
            raise ValueError("features hold values that are not finite")
        distances, found = top_two(rows_ND, centroids)
        bound_N = error_bound(np.sqrt((rows_ND.astype(np.float64) ** 2).sum(axis=1)), reach, rows_ND.shape[1], 24)
        tokens[begin : begin + len(rows_ND)] = found[:, 0]
        gap_N = distances[:, 1].astype(np.float64) - distances[:, 0].astype(np.float64)
        close = np.flatnonzero(gap_N <= 2 * bound_N)
        if len(close):
            tokens[begin + close] = _decide(rows_ND[close].astype(np.float64), centroids, wide_KD, norms_K)
            num_close += len(close)
    return Nearest(tokens=tokens, num_close=num_close)


def error_bound(norms: np.ndarray, reach: float, dim: int, bits: int) -> np.ndarray:
    """Bound the error of a squared distance computed in floats.

    Args:
        norms: Euclidean norms of the rows, (N,).
        reach: Largest norm of a centroid.
        dim: D.
        bits: Bits of the float's mantissa: 24 or 53.

    Returns:
        float64 (N,): see the module's docstring; a thousandth is added for its own roundings.
    """
    unit = 2.0**-bits
    gamma = (dim + 4) * unit / (1 - (dim + 4) * unit)
    smallest = 2.0**-126 if bits == 24 else 2.0**-1022
    bound: np.ndarray = 1.001 * gamma * (norms + reach) ** 2 + 3 * (dim + 4) * smallest
    return bound


def _check(features: np.ndarray, centroids: np.ndarray) -> None:
    if features.dtype != np.float16 or features.ndim != 2:
        raise ValueError(f"features must be float16 (N, D), got {features.dtype} {features.shape}")
    if centroids.dtype != np.float32 or centroids.ndim != 2 or not len(centroids):
        raise ValueError(f"centroids must be float32 (K, D) with K at least 1, got {centroids.dtype} {centroids.shape}")
    if features.shape[1] != centroids.shape[1]:
        raise ValueError(f"features have D = {features.shape[1]}, centroids D = {centroids.shape[1]}")
    if not np.isfinite(centroids).all():
        raise ValueError("centroids hold values that are not finite")


def _engine(name: str) -> Callable[[np.ndarray, np.ndarray], TopTwo]:
    if name == "auto":
        name = "faiss" if importlib.util.find_spec("faiss") else "torch"
    if name == "faiss" and not importlib.util.find_spec("faiss"):
        raise SettingsError('faiss is not installed; pip install "strata-tokens[cpu]", or use engine torch')
    engines = {"faiss": _faiss_top_two, "torch": _torch_top_two}
    if name not in engines:
        raise SettingsError(f"engine must be auto, {' or '.join(engines)}, got {name!r}")
    return engines[name]


def _faiss_top_two(rows_ND: np.ndarray, centroids_KD: np.ndarray) -> TopTwo:
    import faiss

    distances, found = faiss.knn(rows_ND, np.ascontiguousarray(centroids_KD), 2)
    return distances, found


def _torch_top_two(rows_ND: np.ndarray, centroids_KD: np.ndarray) -> TopTwo:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = torch.from_numpy(rows_ND).to(device)
    centroids = torch.from_numpy(np.ascontiguousarray(centroids_KD)).to(device)
    squares = (rows * rows).sum(dim=1, keepdim=True) + (centroids * centroids).sum(dim=1)
    distances, found = torch.addmm(squares, rows, centroids.T, alpha=-2).topk(2, dim=1, largest=False)
    return distances.cpu().numpy(), found.cpu().numpy()


def _decide(rows_ND: np.ndarray, centroids_KD: np.ndarray, wide_KD: np.ndarray, norms_K: np.ndarray) -> np.ndarray:
    """Decide rows in float64, and what it leaves open in exact arithmetic."""
    # ||x||^2 is common to all centroids of a row; without it the error stays below the bound for the whole.
    scores_NK = (norms_K**2)[None, :] - 2 * (rows_ND @ wide_KD.T)
    bound_N = error_bound(np.sqrt((rows_ND**2).sum(axis=1)), float(norms_K.max()), rows_ND.shape[1], 53)
    tokens: np.ndarray = scores_NK.argmin(axis=1)
    open_NK = scores_NK <= scores_NK.min(axis=1, keepdims=True) + 2 * bound_N[:, None]
    for row in np.flatnonzero(open_NK.sum(axis=1) > 1):
        tokens[row] = _exactly(rows_ND[row], centroids_KD, np.flatnonzero(open_NK[row]))
    return tokens


def _exactly(row_D: np.ndarray, centroids_KD: np.ndarray, candidates: np.ndarray) -> int:
    """Compare a few centroids without rounding; equal ones need no arithmetic."""
    best, best_distance = -1, Fraction(0)
    seen: set[bytes] = set()
    for candidate in candidates.tolist():
        # + 0.0 makes -0.0 and 0.0 one value.
        key = (centroids_KD[candidate] + np.float32(0)).tobytes()
        if key in seen:
            continue
        seen.add(key)
        pairs = zip(row_D.tolist(), centroids_KD[candidate].tolist(), strict=True)
        distance = sum(((Fraction(x) - Fraction(c)) ** 2 for x, c in pairs), Fraction(0))
        if best < 0 or distance < best_distance:
            best, best_distance = candidate, distance
    return best
