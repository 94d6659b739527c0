"""The nearest centroid of each row, exactly: no engine, block size, thread count or processor can change a token.

With all points taken relative to the mean m of the centroids, |x - c|^2 = |x - m|^2 + 2 * h and

    h(x, c) = |c - m|^2 / 2 - (x - m) . (c - m),

so the nearest centroid has the least h. An engine computes the score -h in float32, as the product of [x - m, 1] and
[c - m, -|c - m|^2 / 2] or with the last term added at the end, and gives the best two. Where they differ by more than
twice a proven bound of the error the first is right; the other rows are decided again in float64 with a bound of its
own, and what float64 cannot tell apart is compared without any rounding. Ties go to the lower index.

The bound. u = 2^-24, gamma_n = n u / (1 - n u); X = x - m and C = c - m exactly, R the largest |C|.
    (1) A sum of n products has an error of at most gamma_n * sum |a_i b_i| in any order of summation, with or without
        fused multiply-add (Higham, section 3.1). Here n = D + 1.
    (2) Each x_i - m_i and c_i - m_i is rounded once, the last column at most gamma_2 after float64: three more factors
        (1 + u) on a product, so the whole is within gamma_(D+8) * (sum |X_i C_i| + |C|^2 / 2).
    (3) Cauchy and Schwarz: sum |X_i C_i| <= |X| R. |X| is taken from a float32 norm, its square too small by at most a
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

from pipeline.kmeans.candidates import Found, Search, choose
from pipeline.kmeans.engines import engine as choose_engine
from pipeline.kmeans.screening import candidate_scores

_FLOAT32_LIMIT = 2.0**40
_BLOCK_VALUES = 1 << 22
# Pairs a row up to which float64 products of chosen pairs cost less than all of them.
_MAX_CANDIDATES = 16


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Centred:
    """Rows relative to the mean of the centroids.

    Attributes:
        rows: float32 (n, D).
        squares: float64 (n,), their squared norms; finite if the rows are.
        errors: float64 (n,), the bound of the errors of their float32 scores.
    """

    rows: np.ndarray
    squares: np.ndarray
    errors: np.ndarray


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
        self._searches: dict[str, Search] = {}
        self.fits_float32 = bool(np.abs(centroids).max(initial=0) < _FLOAT32_LIMIT)

    def nearest(self, features: np.ndarray, *, engine: str = "auto", block_rows: int | None = None) -> Nearest:
        """Find the nearest centroid of each row; see the module's ``nearest``."""
        num_clusters, dim = self.centroids.shape
        if features.dtype != np.float16 or features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(f"features must be float16 (N, {dim}), got {features.dtype} {features.shape}")
        size = block_rows or max(64, min(2048, _BLOCK_VALUES // (dim + num_clusters)))
        tokens, num_close = np.zeros(len(features), np.int32), 0
        for begin in range(0, len(features), size):
            block = features[begin : begin + size]
            centred = self.centre(block)
            if not np.isfinite(centred.squares).all():
                row = begin + int(np.argmin(np.isfinite(centred.squares)))
                raise ValueError(f"features row {row} holds values that are not finite")
            if num_clusters > 1:
                found = self.find(centred, engine=engine)
                close = self.decide(block, found, centred.errors)
                tokens[begin : begin + size] = found.tokens
                num_close += len(close)
        return Nearest(tokens=tokens, num_close=num_close)

    def centre(self, block: np.ndarray) -> Centred:
        """Prepare rows, float16 (n, D), for a search."""
        import torch

        mean, _, reach = self._float32
        # NumPy takes 3 ms for what torch converts in 0.5 (2048 x 768); a copy, since torch warns of read-only arrays.
        rows = torch.from_numpy(block.copy()).float().sub_(torch.from_numpy(mean))
        squares: np.ndarray = torch.linalg.vector_norm(rows, dim=1).double().square_().numpy()
        return Centred(rows=rows.numpy(), squares=squares, errors=error_bound(squares, reach, len(mean)))

    def find(self, centred: Centred, *, engine: str = "auto", width: np.ndarray | float = 0.0) -> Found:
        """Find the best two centroids of rows by float32 scores; see ``candidates.Search``."""
        if not self.fits_float32:
            # Scores that say nothing: every row is left to ``decide``.
            zeros = np.zeros(len(centred.rows), np.float32)
            tokens, rows = np.zeros(len(zeros), np.int64), np.arange(len(zeros))
            return Found(
                tokens=tokens, best=zeros, second=zeros, rows=rows, columns=tokens, scores=zeros, outer=zeros + np.inf
            )
        if engine not in self._searches:
            self._searches[engine] = choose_engine(engine, *self.centroids.shape)(self._float32[1])
        return self._searches[engine](centred.rows, centred.errors, width)

    def compare(self, centred: Centred, rows: np.ndarray, columns: np.ndarray, outer: np.ndarray) -> Found:
        """Find the best two among candidates by float32 scores; see ``candidates.choose``.

        Args:
            centred: n rows.
            rows: int64 (p,), ascending: the row of each candidate; every row has one at least.
            columns: int64 (p,), the candidates.
            outer: float32 (n,), a bound of the scores of all other centroids.
        """
        return choose(rows, columns, candidate_scores(centred.rows, self._float32[1], rows, columns), outer)

    def highest_scores(self, columns: np.ndarray) -> Callable[[Centred], np.ndarray]:
        """Give a function that bounds the scores of some centroids, float32 (n,): none is higher for the row."""
        import torch

        some = torch.from_numpy(self._float32[1][columns])
        products, halves = some[:, :-1].T.contiguous(), some[:, -1]

        def highest(centred: Centred) -> np.ndarray:
            scores = torch.addmm(halves, torch.from_numpy(centred.rows), products)
            bound: np.ndarray = scores.amax(dim=1).numpy() + centred.errors
            return bound.astype(np.float32)

        return highest

    def decide(self, block: np.ndarray, found: Found, errors: np.ndarray) -> np.ndarray:
        """Make tokens exact, in their place, where float32 does not tell the best from the second.

        Args:
            block: float16 (n, D), the rows.
            found: What ``find`` found for them.
            errors: float64 (n,), their error bounds.

        Returns:
            The rows that were decided again.
        """
        best = found.best.astype(np.float64)
        close = np.flatnonzero(~(best - found.second > 2 * errors))
        few = close[best[close] - found.outer[close] > 2 * errors[close]]
        chosen = np.zeros(len(block), bool)
        chosen[few] = True
        pairs = np.flatnonzero(chosen[found.rows])
        if len(pairs) > _MAX_CANDIDATES * len(block):
            few = few[:0]
        if len(few):
            rows, columns = np.searchsorted(few, found.rows[pairs]), found.columns[pairs]
            wide = block[few].astype(np.float64)
            products = np.einsum("pd,pd->p", wide[rows], self._float64[0][columns])
            found.tokens[few] = self._decide_float64(wide, rows, columns, products)
        many = np.setdiff1d(close, few, assume_unique=True)
        if len(many):
            all_rows, all_columns = np.divmod(np.arange(len(many) * len(self.centroids)), len(self.centroids))
            wide = block[many].astype(np.float64)
            products = (wide @ self._float64[0].T).ravel()
            found.tokens[many] = self._decide_float64(wide, all_rows, all_columns, products)
        return close

    def _decide_float64(
        self, wide: np.ndarray, rows: np.ndarray, columns: np.ndarray, products: np.ndarray
    ) -> np.ndarray:
        """Give the exact tokens (n,) of rows, deciding in float64 where that is certain.

        Args:
            wide: float64 (n, D), rows.
            rows: int64 (p,), ascending: the row of each pair.
            columns: int64 (p,), its centroid, ascending within a row; those left out are not the nearest.
            products: float64 (p,), of the pair.
        """
        table, halves, first_equal = self._float64
        scores = halves[columns] - products
        norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        reach = math.sqrt(2 * float(halves.max()))
        # Products of float16 and float32 neither round, overflow nor underflow in float64: no absolute term.
        gamma = _gamma(wide.shape[1] + 8, 2.0**-53)
        bound = gamma * (1 + 2 * gamma) ** 3 * reach * (norms + reach / 2)
        lowest = np.minimum.reduceat(scores, np.searchsorted(rows, np.arange(len(wide))))
        near = np.flatnonzero(scores <= (lowest + 2 * bound)[rows])
        tokens = np.empty(len(wide), np.int64)
        tokens[rows[near]] = columns[near]
        for row in np.flatnonzero(np.bincount(rows[near]) > 1):
            candidates = np.unique(first_equal[columns[near[rows[near] == row]]])
            tokens[row] = _decide_exactly(wide[row], table, candidates)
        return tokens

    @cached_property
    def _float32(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The mean (D,), the table (K, D + 1) for the engine, and R of the module docstring."""
        mean = self.centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        if not self.fits_float32:
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
        engine: ``int8``, ``faiss``, ``torch``, or ``auto``, the fastest of them here. It changes the speed, never a
            token.
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
