"""Lloyd's algorithm in exact pieces: sum rows by cluster, merge the sums, move the centroids.

    centroid_k = S_k / n_k,   S_k the sum of the n_k rows nearest to it
    inertia    = sum |x|^2 + sum_k c_k . (n_k c_k - 2 S_k)

The sums are integers, so centroids and inertia are the same bits for any partition of the rows over workers and any
order. Rows are summed once; later only those that change their cluster are, out of one sum and into another.
Cost of a row's move: O(D). Memory: ``sums_bytes``. Shapes: n rows, D width, K clusters.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from pipeline.kmeans.fit import fixed_point

_SPLIT = 1 / 1024
_SMALLEST_PUSH = 2.0**-20
# Rows that change are summed so many at a time: a product with fewer would touch all K * D sums for little.
_MOVED_ROWS = 4096
# Sums are carried so many clusters at a time, for the memory of what lies between.
_POURED_ROWS = 64
# Below it float64 holds every multiple of 2^-24, so sums of float16 make no rounding.
_EXACT = 2.0**29
# 256 rows of 768 float64 stay in a second-level cache.
PIECE_ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSums:
    """What some rows contribute to an iteration, exactly.

    Attributes:
        high: int64 (K, D), upper limb of the sums; see ``fixed_point``.
        low: int64 (K, D), lower limb.
        counts: int64 (K,), rows of each cluster.
    """

    high: np.ndarray
    low: np.ndarray
    counts: np.ndarray

    def merged(self, other: "PartialSums") -> "PartialSums":
        """Add the sums of other rows; exact, so any order of merging gives the same.

        Raises:
            ValueError: The other sums are of another K or D.
        """
        if self.high.shape != other.high.shape:
            raise ValueError(f"cannot merge sums of shapes {self.high.shape} and {other.high.shape}")
        high, low = fixed_point.carry(self.high + other.high, self.low + other.low)
        return PartialSums(high=high, low=low, counts=self.counts + other.counts)


def sums_bytes(num_clusters: int, dim: int) -> int:
    """Give what a ``RunningSums`` keeps, in bytes."""
    return 24 * num_clusters * dim


def summing_bytes(num_clusters: int, dim: int) -> int:
    """Give what one ``RunningSums`` at a time takes beside it while rows are summed, in bytes.

    That is rows in float16, twice, and in float64; the sums of these; the limbs that it answers with, and once more
    where these are sent.
    """
    return 2 * _MOVED_ROWS * 12 * dim + (8 + 16 + 16) * num_clusters * dim


class RunningSums:
    """Exact sums of rows by cluster that follow rows from one cluster to another.

    Args:
        num_clusters: K.
        dim: D.
    """

    def __init__(self, num_clusters: int, dim: int) -> None:
        self._high = np.zeros((num_clusters, dim), np.int64)
        self._low = np.zeros((num_clusters, dim), np.int64)
        self._counts = np.zeros(num_clusters, np.int64)
        # Exact float64 while the rows in it are few and small; beyond, it is poured into the limbs.
        self._recent = np.zeros((num_clusters, dim))
        self._recent_bound = 0.0
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def move(self, features: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """Take rows out of the clusters they were in and into those they are in now.

        Args:
            features: float16 (n, D), finite.
            before: Integers (n,), the cluster each row was summed in; -1 for a row that is new.
            after: Integers (n,) in [0, K), the cluster of each row.

        Raises:
            ValueError: Shapes or types do not fit, or a cluster is out of range.
        """
        num_clusters, dim = self._high.shape
        if features.dtype != np.float16 or features.shape != (len(after), dim):
            raise ValueError(f"features must be float16 ({len(after)}, {dim}), got {features.dtype} {features.shape}")
        for name, clusters, least in (("before", before, -1), ("after", after, 0)):
            if len(clusters) and not least <= clusters.min() <= clusters.max() < num_clusters:
                raise ValueError(f"clusters {name} must be in {least} to {num_clusters - 1}")
        changed = np.flatnonzero(before != after)
        for begin in range(0, len(changed), _MOVED_ROWS):
            piece = changed[begin : begin + _MOVED_ROWS]
            self._waiting.append((features[piece], before[piece], after[piece]))
            self._num_waiting += len(piece)
            if self._num_waiting >= _MOVED_ROWS:
                self._sum_waiting()

    def total(self) -> PartialSums:
        """Give the sums of all rows where they are now."""
        self._sum_waiting()
        self._pour()
        return PartialSums(high=self._high.copy(), low=self._low.copy(), counts=self._counts.copy())

    def _sum_waiting(self) -> None:
        """Sum the rows that wait, fewer than two pieces of them."""
        if not self._waiting:
            return
        rows = np.concatenate([features for features, _, _ in self._waiting]).astype(np.float64)
        before = np.concatenate([clusters for _, clusters, _ in self._waiting])
        after = np.concatenate([clusters for _, _, clusters in self._waiting])
        self._waiting, self._num_waiting = [], 0
        left = np.flatnonzero(before >= 0)
        signs = np.concatenate([np.ones(len(rows)), -np.ones(len(left))])
        clusters = np.concatenate([after, before[left]])
        numbers = np.concatenate([np.arange(len(rows)), left])
        bound = len(rows) * max(float(rows.max(initial=0)), -float(rows.min(initial=0)))
        if self._recent_bound + bound >= _EXACT:
            self._pour()
        # At most 8191 rows of at most 65504: below 2^29 in any order of summation.
        moves = csr_matrix((signs, (clusters, numbers)), shape=(len(self._counts), len(rows)))
        self._recent += moves @ rows
        self._recent_bound += bound
        size = len(self._counts)
        self._counts += np.bincount(after, minlength=size) - np.bincount(before[left], minlength=size)

    def _pour(self) -> None:
        for begin in range(0, len(self._recent), _POURED_ROWS):
            some = slice(begin, begin + _POURED_ROWS)
            high, low = fixed_point.split_limbs((self._recent[some] * 2.0**fixed_point.FRACTION_BITS).astype(np.int64))
            self._high[some], self._low[some] = fixed_point.carry(self._high[some] + high, self._low[some] + low)
        self._recent[:] = 0
        self._recent_bound = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """Centroids after an iteration.

    Attributes:
        centroids: float32 (K, D).
        num_empty: Clusters that had no rows and took half of a large one.
    """

    centroids: np.ndarray
    num_empty: int


def sum_squares(features: np.ndarray) -> int:
    """Sum the squared norms of rows: exactly, of norms rounded to units of 2^-24.

    A norm is computed in float64 in an order that depends on D alone, so it depends on the row only.

    Args:
        features: float16 (n, D), finite.

    Returns:
        The sum in units of 2^-24.

    Raises:
        ValueError: A value is not finite.
    """
    total = 0
    for begin in range(0, len(features), PIECE_ROWS):
        rows = features[begin : begin + PIECE_ROWS].astype(np.float64)
        rows *= rows
        total += fixed_point.total(fixed_point.fold_columns(rows))
    return total


def inertia(sums: PartialSums, squares: int, centroids: np.ndarray) -> float:
    """Give the sum of squared distances of all rows to their centroids, at least 0.

    Args:
        sums: Over all rows, assigned with these centroids.
        squares: What ``sum_squares`` gave for all rows.
        centroids: float32 (K, D).
    """
    wide = centroids.astype(np.float64)
    terms = wide * (sums.counts[:, None] * wide - 2 * fixed_point.limbs_to_float(sums.high, sums.low))
    known = squares / (1 << fixed_point.FRACTION_BITS)
    return max(0.0, math.fsum([known, *fixed_point.fold_columns(terms).tolist()]))


def update(total: PartialSums, centroids: np.ndarray) -> Update:
    """Move centroids to the means of their rows; leave no cluster empty.

    The mean is the exact sum rounded to float64, divided in float64 and rounded to float32: three roundings that
    IEEE 754 fixes. An empty cluster takes half of the one with most rows (the lower index of equals): both get its
    centroid, pushed apart by at most a thousandth in a direction that depends on the cluster's number alone, and
    either counts for half in the choice of the next.

    Args:
        total: Sums over all rows.
        centroids: float32 (K, D), those the rows were assigned with.

    Raises:
        ValueError: There are no rows, or shapes differ.

    Source: the split follows the idea of faiss' Clustering (J. Johnson, M. Douze, H. Jegou, "Billion-scale similarity
    search with GPUs", 2017); here the largest cluster is chosen, not a random one.
    """
    if total.high.shape != centroids.shape:
        raise ValueError(f"sums of shape {total.high.shape} do not belong to centroids of shape {centroids.shape}")
    filled = total.counts > 0
    if not filled.any():
        raise ValueError("no rows were assigned; K-means needs at least one")
    moved = centroids.astype(np.float64)
    sums = fixed_point.limbs_to_float(total.high[filled], total.low[filled])
    moved[filled] = sums / total.counts[filled, None]
    sizes = total.counts.copy()
    empty = np.flatnonzero(~filled)
    for cluster in empty:
        donor = int(sizes.argmax())
        # Each split in a direction of its own: two in the same one would put three centroids on two places.
        direction_D = np.random.Generator(np.random.PCG64(int(cluster))).uniform(-1, 1, centroids.shape[1])
        push_D = direction_D * (_SPLIT * np.abs(moved[donor]) + _SMALLEST_PUSH)
        moved[cluster], moved[donor] = moved[donor] + push_D, moved[donor] - push_D
        sizes[cluster] = sizes[donor] // 2
        sizes[donor] -= sizes[cluster]
    return Update(centroids=moved.astype(np.float32), num_empty=len(empty))


def relative_improvement(previous: float, current: float) -> float:
    """Give the share of the inertia that an iteration took away; 0 where there was none to take."""
    return (previous - current) / previous if previous else 0.0
