"""What frames tell about a codebook, as integers: counts of any workers add up to the same, in any order.

Everything that a card says of described frames is computed from these counts, once, at the end (``quality.py``).
Cost: O(N * D) beside the search for tokens. Memory: 16 * D + 16 * K + 8 * K * V bytes, V summed over the tables.
Shapes: N frames, D width, K clusters, V values of a label, B bins of squared distances.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from pipeline.kmeans.fit import fixed_point

STEPS = 32
"""Bins of an octave of squared distances: a bin is at most 3.2 % wide, in distance 1.6 %."""
LOWEST, HIGHEST = -24, 53
"""Powers of two between which squared distances have bins of their own: the unit and limit of ``fixed_point``."""
NUM_BINS = 1 + (HIGHEST - LOWEST) * STEPS

_PIECE_ROWS = 256


class CodeCounts:
    """Counts of the frames that one codebook was asked about.

    Attributes:
        codes: int64 (K,), frames of each code.
        runs: int64 (K,), runs of each code: frames in a row within an utterance that have the same code.
        run_lengths: Number of runs by their length in frames.
        distances: int64 (B,), frames by the bin of their squared distance to the nearest centroid.
        squared_distance: Sum of squared distances, in units of 2^-24.
        squared_norm: Sum of squared norms of the frames, in units of 2^-24.
        high: int64 (D,), upper limb of the sum of the frames; see ``fixed_point``.
        low: int64 (D,), lower limb.
        tables: By name, int64 (K, V): frames that have a code and a label. Frames without a label are in none.
        utterances: Utterances the frames come from.

    Args:
        num_clusters: K.
        dim: D.
        tables: V by name of table.
    """

    def __init__(self, num_clusters: int, dim: int, tables: Mapping[str, int] | None = None) -> None:
        self.codes = np.zeros(num_clusters, np.int64)
        self.runs = np.zeros(num_clusters, np.int64)
        self.run_lengths: Counter[int] = Counter()
        self.distances = np.zeros(NUM_BINS, np.int64)
        self.squared_distance = 0
        self.squared_norm = 0
        self.high, self.low = np.zeros(dim, np.int64), np.zeros(dim, np.int64)
        self.tables = {name: np.zeros((num_clusters, size), np.int64) for name, size in (tables or {}).items()}
        self.utterances = 0

    @property
    def frames(self) -> int:
        """Frames counted (N)."""
        return int(self.codes.sum())

    def add_frames(self, features: np.ndarray, centroids: np.ndarray, tokens: np.ndarray) -> None:
        """Count frames: their codes, squared distances and sums.

        Args:
            features: float16 (N, D), finite.
            centroids: float32 (K, D).
            tokens: Integers (N,) in [0, K), the nearest centroid of each frame.

        Raises:
            ValueError: Shapes do not fit, a token is out of range, or a value is not finite.
        """
        self.codes += self._count(tokens)
        for begin in range(0, len(features), _PIECE_ROWS):
            rows = features[begin : begin + _PIECE_ROWS].astype(np.float64)
            high, low = fixed_point.split_limbs(fixed_point.sum_rows(rows))
            self.high, self.low = fixed_point.carry(self.high + high, self.low + low)
            gaps = rows - centroids[tokens[begin : begin + _PIECE_ROWS]]
            gaps *= gaps
            squares = fixed_point.fold_columns(gaps)
            rows *= rows
            self.squared_norm += fixed_point.total(fixed_point.fold_columns(rows))
            self.squared_distance += fixed_point.total(squares)
            self.distances += np.bincount(distance_bins(squares), minlength=NUM_BINS)

    def add_labels(self, name: str, tokens: np.ndarray, labels: np.ndarray) -> None:
        """Count codes together with labels.

        Args:
            name: The table.
            tokens: Integers (N,) in [0, K).
            labels: Integers (N,) in [0, V), or -1 for a frame without a label.
        """
        table = self.tables[name]
        known = labels >= 0
        np.add.at(table, (tokens[known].astype(np.int64), labels[known]), 1)

    def add_runs(self, tokens: np.ndarray) -> None:
        """Count the runs of a whole utterance, given as its tokens (T,)."""
        starts = run_starts(tokens)
        self.runs += self._count(tokens[starts])
        lengths, found = np.unique(np.diff(np.append(starts, len(tokens))), return_counts=True)
        self.run_lengths.update(dict(zip(lengths.tolist(), found.tolist(), strict=True)))

    def merge(self, other: "CodeCounts") -> None:
        """Add the counts of other frames.

        Raises:
            ValueError: They are of another K, D or V, or of other tables.
        """
        shapes = [(len(one.codes), len(one.high), {k: v.shape for k, v in one.tables.items()}) for one in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"cannot merge counts of {shapes[0]} and {shapes[1]} clusters, width and tables")
        self.codes += other.codes
        self.runs += other.runs
        self.run_lengths.update(other.run_lengths)
        self.distances += other.distances
        self.squared_distance += other.squared_distance
        self.squared_norm += other.squared_norm
        self.high, self.low = fixed_point.carry(self.high + other.high, self.low + other.low)
        for name, table in other.tables.items():
            self.tables[name] += table
        self.utterances += other.utterances

    def _count(self, tokens: np.ndarray) -> np.ndarray:
        counts = np.bincount(tokens, minlength=len(self.codes)).astype(np.int64)
        if len(counts) > len(self.codes):
            raise ValueError(f"tokens must be in 0 to {len(self.codes) - 1}, got {len(counts) - 1}")
        return counts


def run_starts(tokens: np.ndarray) -> np.ndarray:
    """Say where in tokens (T,) a run begins: at the first, and wherever a token differs from the one before."""
    if not len(tokens):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(tokens[1:] != tokens[:-1]) + 1])


def distance_bins(squares: np.ndarray) -> np.ndarray:
    """Give the bin of each squared distance, by arithmetic that does not round.

    Bin 0 holds what is below 2^-24; above, each octave has ``STEPS`` bins of equal width.

    Args:
        squares: float64 (N,), in [0, 2^53).

    Returns:
        int64 (N,).
    """
    mantissas, exponents = np.frexp(squares)
    steps = np.floor((2 * mantissas - 1) * STEPS).astype(np.int64)
    bins = 1 + (exponents.astype(np.int64) - 1 - LOWEST) * STEPS + steps
    return np.where(squares < 2.0**LOWEST, 0, bins)


def bin_edges() -> np.ndarray:
    """Give the B + 1 edges of the bins of squared distances, float64; bin b lies from edge b to below edge b + 1."""
    octaves = 2.0 ** np.arange(LOWEST, HIGHEST)
    inner = (octaves[:, None] * (1 + np.arange(STEPS) / STEPS)).reshape(-1)
    return np.concatenate([[0.0], inner, [2.0**HIGHEST]])
