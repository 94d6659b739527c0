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
Cost: O(N * K * D) float32, at the speed of the engine's matrix product. Memory: 5 K + 13 D bytes a row of a block.
Shapes: N rows, D width, K clusters.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.kmeans.search.candidates import Found, Search, candidate_scores, choose, starts_of
from pipeline.kmeans.search.centred import Centred, Scratch, pieces
from pipeline.kmeans.search.engines import engine as choose_engine

_FLOAT32_LIMIT = 2.0**40
BLOCK_BYTES = 48 << 20
"""What a search takes for a block of rows, their products and scores, unless told otherwise."""
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


class CentroidTable:
    """Centroids prepared for many searches.

    Args:
        centroids: float32 (K, D), finite.
        block_bytes: Memory for a block of rows, their products and scores; it changes the speed, never a token.

    Raises:
        ValueError: They are not.
    """

    def __init__(self, centroids: np.ndarray, *, block_bytes: int | None = None) -> None:
        if centroids.dtype != np.float32 or centroids.ndim != 2 or not len(centroids):
            raise ValueError(f"centroids must be float32 (K, D) with K >= 1, got {centroids.dtype} {centroids.shape}")
        if not np.isfinite(centroids).all():
            raise ValueError("centroids hold values that are not finite")
        self.centroids = centroids
        self._searches: dict[str, Search] = {}
        # Of 1024 to 16,384 rows, 8192 were fastest with 500 x 192 values, 4096 and 8192 with 1000 x 768: by a fifth and
        # a twentieth faster than 2048.
        self.block_rows = max(
            64, min(8192, (block_bytes or BLOCK_BYTES) // (5 * len(centroids) + 13 * centroids.shape[1]))
        )
        self.fits_float32 = bool(np.abs(centroids).max(initial=0) < _FLOAT32_LIMIT)

    def nearest(self, features: np.ndarray, *, engine: str = "auto", block_rows: int | None = None) -> Nearest:
        """Find the nearest centroid of each row; see the module's ``nearest``."""
        num_clusters, dim = self.centroids.shape
        size = block_rows or self.block_rows
        if features.dtype != np.float16 or features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(f"features must be float16 (N, {dim}), got {features.dtype} {features.shape}")
        tokens, num_close, scratch = np.zeros(len(features), np.int32), 0, Scratch()
        for begin in range(0, len(features), size):
            centred = self.centre(features[begin : begin + size], scratch)
            if not np.isfinite(centred.squares).all():
                row = begin + int(np.argmin(np.isfinite(centred.squares)))
                raise ValueError(f"features row {row} holds values that are not finite")
            if num_clusters > 1:
                found = self.find(centred, engine=engine)
                num_close += len(self.decide(centred, found))
                tokens[begin : begin + size] = found.tokens
        return Nearest(tokens=tokens, num_close=num_close)

    def centre(self, block: np.ndarray, scratch: Scratch) -> Centred:
        """Prepare rows, float16 (n, D), for a search; they live in ``scratch``."""
        import torch

        mean, _, _, reach = self._float32
        rows = scratch.take("rows", len(block), len(mean), "float32")
        norms, offset = torch.empty(len(block)), torch.from_numpy(mean)
        for piece in pieces(len(block), len(mean)):
            # A copy first, since torch warns of read-only arrays; NumPy takes 6 times as long as torch to convert it.
            half = scratch.take("half", piece.stop - piece.start, len(mean), "float16")
            np.copyto(half.numpy(), block[piece])
            torch.linalg.vector_norm(rows[piece].copy_(half).sub_(offset), dim=1, out=norms[piece])
        squares: np.ndarray = norms.double().square_().numpy()
        errors = error_bound(squares, reach, len(mean))
        return Centred(features=block, rows=rows, squares=squares, errors=errors, scratch=scratch)

    def find(self, centred: Centred, *, engine: str = "auto", with_lists: bool = False) -> Found:
        """Find the best two centroids of rows by float32 scores; see ``candidates.Search``."""
        if not self.fits_float32:
            # Scores that say nothing: every row is left to ``decide``.
            zeros = np.zeros(len(centred.rows), np.float32)
            tokens, rows = np.zeros(len(zeros), np.int64), np.arange(len(zeros))
            return Found(tokens=tokens, best=zeros, second=zeros, rows=rows, columns=tokens, outer=zeros + np.inf)
        return self._search(engine)(centred, with_lists)

    def compare(self, centred: Centred, rows: np.ndarray, columns: np.ndarray, outer: np.ndarray) -> Found:
        """Find the best two among candidates by float32 scores; see ``candidates.choose``.

        Args:
            centred: n rows.
            rows: int64 (p,), ascending: the row of each candidate; every row has one at least.
            columns: int64 (p,), the candidates.
            outer: float32 (n,), a bound of the scores of all other centroids.
        """
        import torch

        table, offsets = map(torch.from_numpy, self._float32[1:3])
        starts = starts_of(rows, len(outer))
        return choose(rows, starts, columns, candidate_scores(centred, table, offsets, starts, columns), outer)

    def highest(
        self, centred: Centred, some: np.ndarray, listed: tuple[np.ndarray, np.ndarray], *, engine: str = "auto"
    ) -> np.ndarray:
        """Bound the scores of some centroids, float32 (n,); see ``candidates.Search``."""
        if not self.fits_float32:
            return np.full(len(centred.squares), np.inf, np.float32)
        return self._search(engine).highest(centred, some, listed)

    def _search(self, engine: str) -> Search:
        if engine not in self._searches:
            self._searches[engine] = choose_engine(engine, *self.centroids.shape)(*self._float32[1:3])
        return self._searches[engine]

    def decide(self, centred: Centred, found: Found, among: np.ndarray | None = None) -> np.ndarray:
        """Make tokens exact, in their place, where float32 does not tell the best from the second.

        Args:
            centred: n rows.
            found: What ``find`` found for them.
            among: bool (n,), the rows to look at; all by default.

        Returns:
            The rows that were decided again.
        """
        best, twice = found.best.astype(np.float64), 2 * centred.errors
        open_rows = ~(best - found.second > twice)
        close = np.flatnonzero(open_rows if among is None else open_rows & among)
        if not len(close):
            return close
        few = close[best[close] - found.outer[close] > twice[close]]
        chosen = np.zeros(len(best), bool)
        chosen[few] = True
        pairs = np.flatnonzero(chosen[found.rows])
        if len(pairs) > _MAX_CANDIDATES * len(best):
            few = few[:0]
        if len(few):
            rows, columns = np.searchsorted(few, found.rows[pairs]), found.columns[pairs]
            wide, table = centred.features[few].astype(np.float64), self.centroids[columns].astype(np.float64)
            halves, products = np.einsum("pd,pd->p", table, table) / 2, np.einsum("pd,pd->p", wide[rows], table)
            found.tokens[few] = self._decide_float64(wide, rows, columns, halves - products)
        many = np.setdiff1d(close, few, assume_unique=True)
        if len(many):
            all_rows, all_columns = np.divmod(np.arange(len(many) * len(self.centroids)), len(self.centroids))
            wide = centred.features[many].astype(np.float64)
            table = self.centroids.astype(np.float64)
            scores = np.einsum("kd,kd->k", table, table) / 2 - wide @ table.T
            found.tokens[many] = self._decide_float64(wide, all_rows, all_columns, scores.ravel())
        return close

    def _decide_float64(
        self, wide: np.ndarray, rows: np.ndarray, columns: np.ndarray, scores: np.ndarray
    ) -> np.ndarray:
        """Give the exact tokens (n,) of rows, deciding in float64 where that is certain.

        Args:
            wide: float64 (n, D), rows.
            rows: int64 (p,), ascending: the row of each pair.
            columns: int64 (p,), its centroid, ascending within a row; those left out are not the nearest.
            scores: float64 (p,), half of the centroid's squared norm less the product of the pair.
        """
        norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        # Products of float16 and float32 neither round, overflow nor underflow in float64: no absolute term.
        gamma = _gamma(wide.shape[1] + 8, 2.0**-53)
        bound = gamma * (1 + 2 * gamma) ** 3 * self._largest * (norms + self._largest / 2)
        lowest = np.minimum.reduceat(scores, np.searchsorted(rows, np.arange(len(wide))))
        near = np.flatnonzero(scores <= (lowest + 2 * bound)[rows])
        tokens = np.empty(len(wide), np.int64)
        tokens[rows[near]] = columns[near]
        for row in np.flatnonzero(np.bincount(rows[near]) > 1):
            candidates = np.unique(self._first_equal[columns[near[rows[near] == row]]])
            tokens[row] = _decide_exactly(wide[row], self.centroids, candidates)
        return tokens

    @cached_property
    def _float32(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """The mean (D,), centred centroids (K, D), minus half of their squared norms (K,), and R of the module."""
        mean = self.centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
        if not self.fits_float32:
            mean = np.zeros_like(mean)
        centred = self.centroids - mean
        squares = np.einsum("kd,kd->k", centred, centred, dtype=np.float64)
        with np.errstate(over="ignore"):
            offsets = (-squares / 2).astype(np.float32)
        return mean, centred, offsets, math.sqrt(float(squares.max()))

    @cached_property
    def _largest(self) -> float:
        """The largest norm of a centroid, rounded up."""
        squares = np.einsum("kd,kd->k", self.centroids, self.centroids, dtype=np.float64)
        return math.sqrt(float(squares.max())) * (1 + 2.0**-40)

    @cached_property
    def _first_equal(self) -> np.ndarray:
        """Of each centroid the first that equals it (K,)."""
        # Adding zero makes -0.0 and 0.0 the same bytes.
        plain = np.ascontiguousarray(self.centroids + np.float32(0))
        keys = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        equal: np.ndarray = first[inverse]
        return equal


def nearest(
    features: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", block_rows: int | None = None
) -> Nearest:
    """Find the exact nearest centroid of each row by Euclidean distance, the lower index of equals.

    Args:
        features: float16 (N, D), finite.
        centroids: float32 (K, D), finite.
        engine: ``int8``, ``faiss``, ``faiss-gpu``, ``torch``, or ``auto``, the fastest here. It changes the speed,
            never a token.
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
        a, b = table[other].astype(np.float64), table[best].astype(np.float64)
        terms = np.concatenate([a * a, -(b * b), -2 * row * a, 2 * row * b])
        if math.fsum(terms.tolist()) < 0:
            best = other
    return best
