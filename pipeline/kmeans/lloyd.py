"""Lloyd's algorithm in three exact pieces: sum rows by cluster, merge the sums, move the centroids.

    centroid_k = (sum of the rows nearest to centroid k) / (their number)

The sums are integers, so centroids and inertia are the same bits for any partition of the rows over workers and any
order. Cost of ``accumulate``: O(N * D), one pass over the rows by cluster; memory 16 * K * D bytes.
Shapes: N rows, D width, K clusters.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.kmeans import fixed_point

# 256 rows of 768 float64 stay in a second-level cache; exactness would allow 8192.
PIECE_ROWS = 256

_SPLIT = 1 / 1024
_SMALLEST_PUSH = 2.0**-20


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSums:
    """What some rows contribute to an iteration, exactly.

    Attributes:
        high: int64 (K, D), upper limb of the sums; see ``fixed_point``.
        low: int64 (K, D), lower limb.
        counts: int64 (K,), rows of each cluster.
        inertia: Sum of squared distances to the row's centroid, in units of 2^-24.
    """

    high: np.ndarray
    low: np.ndarray
    counts: np.ndarray
    inertia: int

    @property
    def inertia_value(self) -> float:
        """Inertia in units of 1, rounded once."""
        return self.inertia / (1 << fixed_point.FRACTION_BITS)

    def merged(self, other: "PartialSums") -> "PartialSums":
        """Add the sums of other rows; exact, so any order of merging gives the same.

        Raises:
            ValueError: The other sums are of another K or D.
        """
        if self.high.shape != other.high.shape:
            raise ValueError(f"cannot merge sums of shapes {self.high.shape} and {other.high.shape}")
        high, low = fixed_point.carry(self.high + other.high, self.low + other.low)
        return PartialSums(high=high, low=low, counts=self.counts + other.counts, inertia=self.inertia + other.inertia)


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """Centroids after an iteration.

    Attributes:
        centroids: float32 (K, D).
        num_empty: Clusters that had no rows and took half of a large one.
    """

    centroids: np.ndarray
    num_empty: int


def accumulate(features: np.ndarray, centroids: np.ndarray, tokens: np.ndarray) -> PartialSums:
    """Sum rows by cluster, with their squared distances to their centroids.

    A row's distance is computed in float64 in an order that depends on D alone and rounded to 2^-24, so it depends on
    the row and its centroid only.

    Args:
        features: float16 (N, D).
        centroids: float32 (K, D).
        tokens: Integers (N,) in [0, K), the cluster of each row.

    Raises:
        ValueError: Shapes or types do not fit, a token is out of range, or a value is not finite.
    """
    if features.dtype != np.float16 or features.ndim != 2 or features.shape[1:] != centroids.shape[1:]:
        raise ValueError(f"features must be float16 (N, {centroids.shape[1]}), got {features.dtype} {features.shape}")
    num_clusters, dim = centroids.shape
    if tokens.shape != (len(features),) or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < num_clusters):
        raise ValueError(f"tokens must be ({len(features)},) in 0 to {num_clusters - 1}, got shape {tokens.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite")
    counts = np.bincount(tokens, minlength=num_clusters)
    order, ends = np.argsort(tokens, kind="stable"), np.cumsum(counts)
    high, low = np.zeros((num_clusters, dim), np.int64), np.zeros((num_clusters, dim), np.int64)
    distances = np.empty(len(features))
    for cluster in np.flatnonzero(counts):
        centroid = centroids[cluster].astype(np.float64)
        for begin in range(ends[cluster] - counts[cluster], ends[cluster], PIECE_ROWS):
            end = min(begin + PIECE_ROWS, ends[cluster])
            rows = features[order[begin:end]].astype(np.float64)
            piece_high, piece_low = fixed_point.split_limbs(fixed_point.sum_rows(rows))
            high[cluster] += piece_high
            low[cluster] += piece_low
            rows -= centroid
            rows *= rows
            distances[begin:end] = fixed_point.fold_columns(rows)
    high, low = fixed_point.carry(high, low)
    return PartialSums(high=high, low=low, counts=counts.astype(np.int64), inertia=fixed_point.total(distances))


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
