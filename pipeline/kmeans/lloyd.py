"""One iteration of Lloyd's algorithm with sums that are exact in any order.

float16 values are multiples of 2^-24, so their sums are integers of that unit: nothing is rounded until the mean is
taken, and centroids do not depend on how rows are split or in which order parts are added. Inertia is summed the
same way, since it decides when to stop. Cost: O(N D) beside the assignment; memory: one block of rows and K * D sums.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

FRACTION_BITS = 24
UNIT = 2.0**-FRACTION_BITS
"""The smallest float16; one step of the fixed point."""

_BLOCK_ROWS = 4_096
_SAFE = 1 << 62
_SPLIT = 1 / 1024


@dataclass(frozen=True, kw_only=True)
class PartialSums:
    """Exact sums of some rows by cluster, in units of 2^-24.

    Attributes:
        sums: (K, D), int64, or Python integers where int64 might overflow.
        counts: int64 (K,).
        inertia: Sum of squared distances to the assigned centroids, each rounded to the unit.
        bound: No sum exceeds this magnitude.
    """

    sums: np.ndarray
    counts: np.ndarray
    inertia: int
    bound: int

    def merged(self, other: Self) -> "PartialSums":
        """Add the sums of other rows; exact, in any order."""
        bound = self.bound + other.bound
        left, right = self.sums, other.sums
        if bound >= _SAFE:
            left, right = left.astype(object), right.astype(object)
        return PartialSums(
            sums=left + right,
            counts=self.counts + other.counts,
            inertia=self.inertia + other.inertia,
            bound=bound,
        )

    @property
    def inertia_value(self) -> float:
        """Inertia as a float, correctly rounded."""
        return self.inertia / (1 << FRACTION_BITS)


def accumulate(features: np.ndarray, centroids: np.ndarray, tokens: np.ndarray) -> PartialSums:
    """Sum rows up by cluster.

    Args:
        features: float16 (N, D).
        centroids: float32 (K, D), those the tokens were assigned with.
        tokens: integer (N,) in [0, K).
    """
    largest = int(np.abs(features).max(initial=0).astype(np.float64) * (1 << FRACTION_BITS))
    bound = largest * len(features)
    sums = np.zeros(centroids.shape, np.int64 if bound < _SAFE else object)
    counts = np.bincount(tokens, minlength=len(centroids)).astype(np.int64)
    order = np.argsort(tokens, kind="stable")
    inertia = 0
    for begin in range(0, len(order), _BLOCK_ROWS):
        rows = order[begin : begin + _BLOCK_ROWS]
        wide_ND, owners_N = features[rows].astype(np.float64), tokens[rows]
        starts = np.flatnonzero(np.r_[True, owners_N[1:] != owners_N[:-1]])
        # float64 holds these sums exactly: 4,096 rows of at most 2^40 units stay below 2^53.
        partial = np.add.reduceat(wide_ND * (1 << FRACTION_BITS), starts, axis=0).astype(np.int64)
        sums[owners_N[starts]] += partial
        inertia += _sum_of_squares(wide_ND - centroids[owners_N])
    return PartialSums(sums=sums, counts=counts, inertia=inertia, bound=bound)


def _sum_of_squares(differences_ND: np.ndarray) -> int:
    """Sum squared norms exactly, each rounded to the unit; a row's norm depends on that row alone."""
    scaled_N = np.rint((differences_ND * differences_ND).sum(axis=1) * (1 << FRACTION_BITS))
    if scaled_N.max(initial=0.0) * len(scaled_N) < _SAFE:
        return int(scaled_N.astype(np.int64).sum())
    return sum(map(int, scaled_N.tolist()))


@dataclass(frozen=True, kw_only=True)
class Update:
    """Centroids after an iteration.

    Attributes:
        centroids: float32 (K, D).
        num_empty: Clusters that had no row and took half of another.
    """

    centroids: np.ndarray
    num_empty: int


def update(total: PartialSums, centroids: np.ndarray) -> Update:
    """Move centroids to the means of their rows; leave no cluster empty.

    An empty cluster takes half of the largest one: both get its centroid, pushed apart by at most a thousandth in a
    direction that depends on the cluster's number alone, and the largest then counts for half.

    Args:
        total: Sums over all rows.
        centroids: float32 (K, D), those the rows were assigned with.

    Source: the split follows the idea of faiss' Clustering (J. Johnson, M. Douze, H. Jegou, "Billion-scale similarity
    search with GPUs", 2017); here the largest cluster is chosen, not a random one.
    """
    filled = total.counts > 0
    moved = centroids.astype(np.float64)
    moved[filled] = total.sums[filled].astype(np.float64) / total.counts[filled, None] * UNIT
    sizes = total.counts.copy()
    empty = np.flatnonzero(~filled)
    for cluster in empty:
        donor = int(sizes.argmax())
        # Each split in a direction of its own: two in the same one would put three centroids on two places.
        direction_D = np.random.Generator(np.random.PCG64(int(cluster))).uniform(-1, 1, centroids.shape[1])
        push_D = direction_D * (_SPLIT * np.abs(moved[donor]) + 16 * UNIT)
        moved[cluster], moved[donor] = moved[donor] + push_D, moved[donor] - push_D
        sizes[cluster] = sizes[donor] // 2
        sizes[donor] -= sizes[cluster]
    return Update(centroids=moved.astype(np.float32), num_empty=len(empty))


def relative_improvement(previous: float, current: float) -> float:
    """Give the share by which inertia fell; 0 where there was none left."""
    return (previous - current) / previous if previous > 0 else 0.0
