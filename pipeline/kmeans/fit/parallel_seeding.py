"""First centroids by k-means||: a few passes over all rows, wherever they lie, instead of K passes over a sample.

Each round draws about 2 K rows at once, every row for itself with probability l * d^2 / phi, where d is its distance
to the nearest candidate so far and phi the sum of d^2 over all rows. Each candidate then counts for the rows nearest
to it, and k-means++ chooses K of them. The result is the same bits for any partition of the rows: a draw depends on
the row's hash and the round, d^2 on the row and the candidates, phi is an exact integer, and candidates are kept in
the order of their bytes.

Source: B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++", VLDB 2012, algorithm 2.
We go on for more rounds where they gave fewer than K candidates.
Cost: with 5 rounds of 2 K, 10 * N * K * D products, as 10 iterations of Lloyd's algorithm. Memory: 20 bytes a row
between calls, about twice that within. Shapes: N rows, D width, K clusters, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import SettingsError
from pipeline.features.samples.hashing import draws
from pipeline.kmeans.fit import fixed_point
from pipeline.kmeans.fit.lloyd import PIECE_ROWS
from pipeline.kmeans.fit.seeding import byte_keys
from pipeline.kmeans.search.assignment import nearest

_POTENTIAL_BITS = 2 * fixed_point.FRACTION_BITS


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Rows that stand for all others.

    Attributes:
        rows: float16 (C, D), all different, at least K.
        weights: int64 (C,), at least 1: how many rows are nearest to each.
    """

    rows: np.ndarray
    weights: np.ndarray


class Pull(Protocol):
    """What a round asks of rows: of one partition, or of many with their answers joined.

    ``rounds`` always holds the candidates of every round so far, float16 (C_r, D), the first row's before all. So
    whoever lost its state, a restarted actor, finds it again; between calls rounds are only appended.
    """

    def potential(self, rounds: Sequence[np.ndarray]) -> int:
        """Sum the squared distances to the nearest candidate, in units of 2^-48; partitions add up."""
        ...

    def choose(self, rounds: Sequence[np.ndarray], potential: int, expected: float) -> np.ndarray:
        """Draw about ``expected`` rows of all, float16 (n, D), given everyone's potential; partitions concatenate."""
        ...

    def weights(self, rounds: Sequence[np.ndarray]) -> np.ndarray:
        """Count the rows nearest to each candidate, int64 (C,); partitions add up."""
        ...


class PartitionPull:
    """The pull of the rows of one partition, which remembers each row's nearest candidate and its distance.

    A round so costs distances to its new candidates only. Of candidates of several rounds at the same rounded distance
    the earliest is nearest.

    Args:
        rows: float16 (n, D), finite.
        hashes: uint64 (n,), from ``sampling.frame_hash``; another seed gives other draws.
    """

    def __init__(self, rows: np.ndarray, hashes: np.ndarray) -> None:
        if hashes.shape != rows.shape[:1] or hashes.dtype != np.uint64:
            raise ValueError(f"hashes must be uint64 {rows.shape[:1]}, got {hashes.dtype} {hashes.shape}")
        self._rows = rows
        self._hashes = hashes
        self._distances = np.full(len(rows), np.inf)
        self._nearest = np.zeros(len(rows), np.int32)
        self._num_rounds = 0

    def potential(self, rounds: Sequence[np.ndarray]) -> int:
        """Sum the squared distances to the nearest candidate; see ``Pull``."""
        self._advance(rounds)
        return sum_exactly(self._distances)

    def choose(self, rounds: Sequence[np.ndarray], potential: int, expected: float) -> np.ndarray:
        """Draw rows by their pull, each distinct one once; see ``Pull``."""
        self._advance(rounds)
        mask = drawn(self._distances, draws(self._hashes, len(rounds)), potential, expected)
        return distinct_rows(self._rows[mask])

    def weights(self, rounds: Sequence[np.ndarray]) -> np.ndarray:
        """Count the rows nearest to each candidate; see ``Pull``."""
        self._advance(rounds)
        counts: np.ndarray = np.bincount(self._nearest, minlength=sum(map(len, rounds)))
        return counts.astype(np.int64)

    def _advance(self, rounds: Sequence[np.ndarray]) -> None:
        """Take in the candidates of the rounds not seen yet.

        Round by round even after a restart: of all candidates at once another could win by the rounding of a distance.
        """
        for number in range(self._num_rounds, len(rounds)):
            if len(rounds[number]):
                found, distances = nearest_distances(self._rows, rounds[number])
                nearer = distances < self._distances
                self._distances[nearer] = distances[nearer]
                self._nearest[nearer] = found[nearer] + sum(map(len, rounds[:number]))
            self._num_rounds = number + 1


def gather(
    pull: Pull, first: np.ndarray, num_clusters: int, *, oversampling: float = 2, num_rounds: int = 5
) -> Candidates:
    """Draw candidates from all rows; ``kmeans_plus_plus`` of them, with their weights, gives the K first centroids.

    Rounds go on past ``num_rounds`` while there are fewer than K candidates, as where a few rows far out drew most, or
    equal rows were drawn together. Few do: a row with more than 1 / l of phi is always taken.

    Args:
        pull: All the rows.
        first: float16 (1, D), the first candidate: a row at random, such as that of smallest hash.
        num_clusters: K.
        oversampling: Rows drawn in a round, expected, for each cluster: l / K of the paper.
        num_rounds: Rounds, at least; fewer where every row is a candidate before.

    Raises:
        SettingsError: There are fewer than K distinct rows.
    """
    rounds = [distinct_rows(first)]
    while len(rounds) <= num_rounds or sum(map(len, rounds)) < num_clusters:
        potential = pull.potential(rounds)
        if not potential:
            break
        rounds.append(distinct_rows(pull.choose(rounds, potential, oversampling * num_clusters)))
    rows = np.concatenate(rounds)
    if len(rows) < num_clusters:
        raise SettingsError(
            f"num_clusters is {num_clusters}, but the features hold only {len(rows)} distinct rows; "
            "lower num_clusters or keep more frames"
        )
    return Candidates(rows=rows, weights=pull.weights(rounds))


def nearest_distances(rows: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find each row's nearest candidate, and how far it is.

    Args:
        rows: float16 (n, D), finite.
        candidates: float16 (C, D), finite.

    Returns:
        int32 (n,), the lowest index of equals, and the squared distances, float64 (n,), which depend on the row and
        its candidate alone.
    """
    found = nearest(rows, candidates.astype(np.float32)).tokens
    distances = np.empty(len(rows))
    for begin in range(0, len(rows), PIECE_ROWS):
        piece = slice(begin, begin + PIECE_ROWS)
        offsets = rows[piece].astype(np.float64) - candidates[found[piece]]
        offsets *= offsets
        distances[piece] = fixed_point.fold_columns(offsets)
    return found, distances


def sum_exactly(distances: np.ndarray) -> int:
    """Sum squared distances exactly.

    Two different float16 values are at least 2^-24 apart, so the sum is 0 only where every distance is.

    Args:
        distances: float64 (n,), in [0, 2^53).

    Returns:
        The sum in units of 2^-48, each distance cut to a whole number of them.
    """
    unit = 2.0**fixed_point.FRACTION_BITS
    coarse = np.floor(distances * unit) / unit
    fine = np.floor((distances - coarse) * unit * unit) / unit
    return (fixed_point.total(coarse) << fixed_point.FRACTION_BITS) + fixed_point.total(fine)


def drawn(distances: np.ndarray, numbers: np.ndarray, potential: int, expected: float) -> np.ndarray:
    """Tell which rows are candidates: each with probability min(1, expected * its share of the potential).

    Args:
        distances: float64 (n,), squared.
        numbers: float64 (n,), random in [0, 1).
        potential: Sum of the squared distances of all rows of all partitions, in units of 2^-48.
        expected: l, how many rows are drawn at most on average.

    Returns:
        Booleans (n,).
    """
    # Division of Python integers rounds once, whatever their size.
    whole = potential / (1 << _POTENTIAL_BITS)
    mask: np.ndarray = expected * distances > numbers * whole
    return mask


def distinct_rows(rows: np.ndarray) -> np.ndarray:
    """Give the different rows, float16 (c, D), in the order of their bytes, whatever order they come in."""
    _, first = np.unique(byte_keys(rows), return_index=True)
    distinct: np.ndarray = rows[first] + np.float16(0)
    return distinct
