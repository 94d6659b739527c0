"""The nearest centroid of each row, exactly: no engine, block size, thread count or processor can change a token.

With all points taken relative to the mean m of the centroids, |x - c|^2 = |x - m|^2 + 2 * h and

    h(x, c) = |c - m|^2 / 2 - (x - m) . (c - m),

so the nearest centroid has the least h. An engine computes -h in float32, as the product of [x - m, 1] and
[c - m, -|c - m|^2 / 2], and gives the best two. Where they differ by more than twice a proven bound of the error the
first is right; the other rows are decided again in float64 with a bound of its own, and what float64 cannot tell
apart is compared without any rounding. Ties go to the lower index.

The bound. u = 2^-24, gamma_n = n u / (1 - n u); X = x - m and C = c - m exactly, R the largest |C|.
    (1) A sum of n products has an error of at most gamma_n * sum |a_i b_i| in any order of summation, with or without
        fused multiply-add (Higham, section 3.1). Here n = D + 1.
    (2) Each x_i - m_i and c_i - m_i is rounded once, the last column at most gamma_2 after float64: three more factors
        (1 + u) on a product, so the whole is within gamma_(D+8) * (sum |X_i C_i| + |C|^2 / 2).
    (3) Cauchy and Schwarz: sum |X_i C_i| <= |X| R. |X| is taken from a float32 sum of squares, too small by at most a
        factor 1 - gamma_(D+8), and 1 / (1 - gamma_n) <= 1 + gamma_2n.
    (4) Below 2^-126 float32 loses relative precision, or all of it where subnormal numbers are flushed to zero: at
        most 2^-126 for each of 2 D + 2 products and sums, and for each input, which its partner multiplies.
        (D + 8) * 2^-124 * (1 + |X| + R) covers them.
Beyond 2^40 centroids could overflow float32, so all rows go to float64 then.

Source: N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, SIAM 2002.
Cost: O(N * K * D) float32, at the speed of the engine's matrix product. Memory: (D + K) * 4 bytes a row of a block.
Shapes: N rows, D width, K clusters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.errors import SettingsError

ENGINES = ("auto", "faiss", "torch")

_FLOAT32_LIMIT = 2.0**40
_BLOCK_VALUES = 1 << 23

TopTwo = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Rows (n, D + 1) and table (K, D + 1), float32, to the two largest products of each row (n, 2) and where they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """Tokens of some rows.

    Attributes:
        tokens: int32 (N,), the exact nearest centroid of each row, the lower index of equals.
        num_close: Rows that float32 could not decide. A measure of work: unlike the tokens it may differ between
            engines and block sizes.
    """

    tokens: np.ndarray
    num_close: int


class CentroidTable:
    """Centroids prepared for many searches.

    Args:
        centroids: float32 (K, D), finite.

    Raises:
        ValueError: They are not.
    """

    def __init__(self, centroids: np.ndarray) -> None:
        if centroids.dtype != np.float32 or centroids.ndim != 2 or not len(centroids):
            raise ValueError(f"centroids must be float32 (K, D) with K >= 1, got {centroids.dtype} {centroids.shape}")
        if not np.isfinite(centroids).all():
            raise ValueError("centroids hold values that are not finite")
        self.centroids = centroids
        self._fits_float32 = bool(np.abs(centroids).max(initial=0) < _FLOAT32_LIMIT)

    def nearest(self, features: np.ndarray, *, engine: str = "auto", block_rows: int | None = None) -> Nearest:
        """Find the nearest centroid of each row; see the module's ``nearest``."""
        num_clusters, dim = self.centroids.shape
        if features.dtype != np.float16 or features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(f"features must be float16 (N, {dim}), got {features.dtype} {features.shape}")
        top_two = _engine(engine)
        size = block_rows or max(64, min(4096, _BLOCK_VALUES // (dim + num_clusters)))
        tokens, num_close = np.zeros(len(features), np.int32), 0
        for begin in range(0, len(features), size):
            block = features[begin : begin + size]
            rows, squares = self._centre(block)
            if not np.isfinite(squares).all():
                row = begin + int(np.argmin(np.isfinite(squares)))
                raise ValueError(f"features row {row} holds values that are not finite")
            if num_clusters > 1:
                found, close = self._search(rows, squares, top_two)
                found[close] = self._decide_float64(block[close])
                tokens[begin : begin + size] = found
                num_close += len(close)
        return Nearest(tokens=tokens, num_close=num_close)

    def _centre(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give rows [x - m, 1], float32 (n, D + 1), and float64 |x - m|^2 (n,), which are finite if the rows are."""
        mean = self._float32[0]
        rows = np.empty((len(block), len(mean) + 1), np.float32)
        np.subtract(block, mean, out=rows[:, :-1])
        rows[:, -1] = 1
        squares: np.ndarray = np.einsum("nd,nd->n", rows[:, :-1], rows[:, :-1]).astype(np.float64)
        return rows, squares

    def _search(self, rows: np.ndarray, squares: np.ndarray, top_two: TopTwo) -> tuple[np.ndarray, np.ndarray]:
        """Give tokens (n,) after float32, and the indices of those rows whose token is not certain."""
        if not self._fits_float32:
            return np.zeros(len(rows), np.int32), np.arange(len(rows))
        _, table, reach = self._float32
        scores, found = top_two(rows, table)
        margin = scores[:, 0].astype(np.float64) - scores[:, 1]
        close = np.flatnonzero(~(margin > 2 * error_bound(squares, reach, rows.shape[1] - 1)))
        return found[:, 0].astype(np.int32), close

    def _decide_float64(self, block: np.ndarray) -> np.ndarray:
        """Give the exact tokens (n,) of rows, deciding in float64 where that is certain."""
        if not len(block):
            return np.zeros(0, np.int32)
        table, halves, first_equal = self._float64
        rows = block.astype(np.float64)
        scores = halves - rows @ table.T
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        reach = math.sqrt(2 * float(halves.max()))
        # Products of float16 and float32 neither round, overflow nor underflow in float64: no absolute term.
        gamma = _gamma(block.shape[1] + 8, 2.0**-53)
        bound = gamma * (1 + 2 * gamma) ** 3 * reach * (norms + reach / 2)
        tokens: np.ndarray = scores.argmin(axis=1).astype(np.int32)
        close = scores <= (scores.min(axis=1) + 2 * bound)[:, None]
        for row in np.flatnonzero(close.sum(axis=1) > 1):
            candidates = np.unique(first_equal[close[row]])
            tokens[row] = _decide_exactly(rows[row], table, candidates)
        return tokens

    @cached_property
    def _float32(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The mean (D,), the table (K, D + 1) for the engine, and R of the module docstring."""
        mean = self.centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        if not self._fits_float32:
            mean = np.zeros_like(mean)
        centred = self.centroids - mean
        squares = np.einsum("kd,kd->k", centred, centred, dtype=np.float64)
        with np.errstate(over="ignore"):
            table = np.concatenate([centred, (-squares / 2).astype(np.float32)[:, None]], axis=1)
        return mean, table, math.sqrt(float(squares.max()))

    @cached_property
    def _float64(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The table (K, D), half of the squared norms (K,), and of each centroid the first that equals it (K,)."""
        table = self.centroids.astype(np.float64)
        # Adding zero makes -0.0 and 0.0 the same bytes.
        plain = np.ascontiguousarray(self.centroids + np.float32(0))
        keys = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        halves: np.ndarray = np.einsum("kd,kd->k", table, table) / 2
        return table, halves, first[inverse]


def nearest(
    features: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", block_rows: int | None = None
) -> Nearest:
    """Find the exact nearest centroid of each row by Euclidean distance, the lower index of equals.

    Args:
        features: float16 (N, D), finite.
        centroids: float32 (K, D), finite.
        engine: ``faiss``, ``torch`` (on a GPU where there is one), or ``auto``: faiss where it is installed, else
            torch. It changes the speed, never a token.
        block_rows: Rows at a time, which bounds memory; default by K and D.

    Raises:
        ValueError: Types or shapes do not fit, or a value is not finite.
        SettingsError: The engine is unknown or not installed.
    """
    return CentroidTable(centroids).nearest(features, engine=engine, block_rows=block_rows)


def error_bound(squares: np.ndarray, reach: float, dim: int) -> np.ndarray:
    """Bound the error of the engine's scores, as the module docstring proves.

    Args:
        squares: float64 (n,), squared norms of the centred rows as float32 computed them.
        reach: Largest norm of the centred centroids.
        dim: D.

    Returns:
        float64 (n,), in units of the scores, half a squared distance.
    """
    gamma = _gamma(dim + 8, 2.0**-24)
    # The float32 squares may have lost what is below 2^-126 in D products and sums.
    norms = np.sqrt(squares + dim * 2.0**-124)
    slack = (1 + _gamma(2 * (dim + 8), 2.0**-24)) ** 2
    bound: np.ndarray = slack * gamma * reach * (norms + reach / 2)
    return bound + (dim + 8) * 2.0**-124 * (1 + norms + reach)


def _gamma(count: int, roundoff: float) -> float:
    return count * roundoff / (1 - count * roundoff)


def _decide_exactly(row: np.ndarray, table: np.ndarray, candidates: np.ndarray) -> int:
    """Compare candidates, ascending and all different, without rounding.

    Every term of |c|^2 - 2 x . c is exact in float64 (48 and 36 bits), and ``math.fsum`` rounds once, so the sign of
    its result is the sign of the true difference.
    """
    best = int(candidates[0])
    for other in candidates[1:].tolist():
        a, b = table[other], table[best]
        terms = np.concatenate([a * a, -(b * b), -2 * row * a, 2 * row * b])
        if math.fsum(terms.tolist()) < 0:
            best = other
    return best


def _engine(name: str) -> TopTwo:
    if name == "auto":
        try:
            return _faiss_engine()
        except SettingsError:
            return _torch_engine()
    if name == "faiss":
        return _faiss_engine()
    if name == "torch":
        return _torch_engine()
    raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")


def _faiss_engine() -> TopTwo:
    try:
        import faiss
    except ImportError as error:
        raise SettingsError(
            'the engine faiss is not installed; pip install "strata-tokens[cpu]", or use the engine torch'
        ) from error

    def top_two(rows: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # As a search by inner product it takes 0.32 s for 20,000 x 1000 x 768 on one core, by L2 0.54 s.
        scores, found = faiss.knn(rows, table, 2, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, found

    return top_two


def _torch_engine() -> TopTwo:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def top_two(rows: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The bound holds for float32 products; torch may be set to multiply in TF32 or bfloat16.
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        try:
            products = torch.from_numpy(rows).to(device) @ torch.from_numpy(table).to(device).T
        finally:
            if precision != "highest":
                torch.set_float32_matmul_precision(precision)
        best = products.topk(2, dim=1)
        return best.values.cpu().numpy(), best.indices.cpu().numpy()

    return top_two
