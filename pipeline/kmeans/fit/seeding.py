"""First centroids: by greedy k-means++, in integers, so that every machine chooses the same rows; by hash; or given.

k-means++ needs squared distances only as weights of a draw. Rows are therefore rounded to a grid so coarse that all
distances and partial sums of a float32 matrix product are integers up to 2^24: they are exact, in any order, on any
processor and for any number of threads, and so are the draws. Cost: O(n * D * K * trials), memory 4 * n * D bytes.
Shapes: n rows, D width, K clusters.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from pipeline.errors import SettingsError
from pipeline.kmeans.fit import fixed_point

Seeding = Literal["k-means++", "k-means||", "random"]

# Norms below 2^11 keep every partial sum of a doubled product, and every squared distance, within 2^24.
_LARGEST_NORM = 2047
_OUTLIER_NORMS = 4
_BLOCK_ROWS = 128
# A squared distance is at most 2^24, so weighted sums of them stay within the 2^53 that float64 counts exactly.
_LARGEST_WEIGHT = 2.0**29


def kmeans_plus_plus(
    sample: np.ndarray, num_clusters: int, seed: int, weights: np.ndarray | None = None, *, threads: int = 1
) -> np.ndarray:
    """Choose K different rows as first centroids, far from each other.

    Each next row is the best of 2 + ln K candidates, drawn with probability proportional to the squared distance to
    the nearest row chosen before; the best leaves the least inertia, the first of equals. Equal rows count as one row
    with the sum of their weights; where all weights together exceed 2^29 they are halved, and rounded up, until they
    do not. Distances are those of rows rounded to a grid, 2047 steps to the largest norm around the median of
    the rows; a row farther out than 4 times the 99th percentile of norms is weighted as if it lay there. No row is
    chosen twice.

    Source: D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; its section 6
    proposes the greedy choice. The integer grid is ours.

    Args:
        sample: float16 (n, D), finite.
        num_clusters: K.
        seed: Seed of ``numpy.random.PCG64``.
        weights: Integers (n,), at least 1: how many rows each stands for, below 2^53 in all; default 1 each.
        threads: Threads that compute distances, each with what numpy's products take.

    Returns:
        float32 (K, D), rows of the sample in the order of their choice. The same on every machine and for any number
        of threads, given NumPy's stream of ``Generator.integers``.

    Raises:
        SettingsError: The sample has fewer than K distinct rows.
        ValueError: It is not float16 (n, D), or not finite, or weights are not as said.
    """
    if weights is None:
        weights = np.ones(len(sample), np.int64)
    elif weights.shape != sample.shape[:1] or weights.dtype.kind != "i" or weights.min(initial=1) < 1:
        raise ValueError(
            f"weights must be {sample.shape[:1]} integers of at least 1, got {weights.dtype} {weights.shape}"
        )
    rows, totals = _distinct(sample, weights, num_clusters, "k-means++")
    while totals.sum() > _LARGEST_WEIGHT:
        totals = np.ceil(totals / 2)
    chosen: np.ndarray = rows[_choose(_on_grid(rows), totals, num_clusters, seed, threads)].astype(np.float32)
    return chosen


def random_rows(sample: np.ndarray, num_clusters: int) -> np.ndarray:
    """Choose the first K different rows of a sample in the order of their hashes: K at random, the same everywhere.

    Args:
        sample: float16 (n, D), finite, by ascending hash.
        num_clusters: K.

    Returns:
        float32 (K, D).

    Raises:
        SettingsError: The sample has fewer than K distinct rows.
        ValueError: It is not float16 (n, D), or not finite.
    """
    rows, _ = _distinct(sample, np.ones(len(sample), np.int64), num_clusters, "random seeding")
    chosen: np.ndarray = rows[:num_clusters].astype(np.float32)
    return chosen


def given_centroids(centroids: np.ndarray, num_clusters: int, dim: int, source: str) -> np.ndarray:
    """Check centroids that a fit is to start from.

    Args:
        centroids: (K, D) of any float type.
        num_clusters: K of the fit.
        dim: D of the features.
        source: Where they come from, for messages.

    Returns:
        float32 (K, D).

    Raises:
        SettingsError: They are of another type, K or D, or a value is not finite as float32.
    """
    if centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise SettingsError(f"{source}: centroids must be floats (K, D), got {centroids.dtype} {centroids.shape}")
    if centroids.shape[1] != dim:
        raise SettingsError(
            f"{source}: centroids are {centroids.shape[1]} wide, the features {dim}; "
            "give centroids of the same encoder and layer"
        )
    if len(centroids) != num_clusters:
        raise SettingsError(
            f"{source}: {len(centroids)} centroids, but num_clusters is {num_clusters}; the two must be equal"
        )
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(centroids, np.float32)
    if not np.isfinite(table).all():
        row = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise SettingsError(f"{source}: centroid {row} holds values that are not finite in float32")
    return table


def byte_keys(rows: np.ndarray) -> np.ndarray:
    """Give each row's bytes as one value, void (n,); rows are equal where their keys are.

    Args:
        rows: float16 (n, D).
    """
    # Adding zero makes -0.0 and 0.0 the same bytes.
    plain = np.ascontiguousarray(rows + np.float16(0))
    keys: np.ndarray = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
    return keys


def _distinct(
    sample: np.ndarray, weights: np.ndarray, num_clusters: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Give at least K distinct rows in the order of their first appearance, and the sum of weights of each, float64."""
    if sample.dtype != np.float16 or sample.ndim != 2:
        raise ValueError(f"sample must be float16 (n, D), got {sample.dtype} {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("sample holds values that are not finite")
    keys = byte_keys(sample)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < num_clusters:
        raise SettingsError(
            f"num_clusters is {num_clusters}, but the {len(sample)} rows sampled for {purpose} hold only {len(first)} "
            "distinct ones; lower num_clusters or sample more rows"
        )
    order = np.argsort(first)
    rows: np.ndarray = sample[first[order]] + np.float16(0)
    return rows, np.bincount(inverse, weights=weights)[order]


def _on_grid(rows: np.ndarray) -> np.ndarray:
    """Round rows to integers, float32 (n, D), of norm below 2^11 around their median."""
    # A mean would be drawn away by a single row far out, and all others would share a few grid points.
    middle = len(rows) // 2
    centre = np.array([np.partition(column, middle)[middle] for column in rows.T.astype(np.float32)], np.float64)
    squares = np.empty(len(rows))
    blocks = [slice(begin, begin + _BLOCK_ROWS) for begin in range(0, len(rows), _BLOCK_ROWS)]
    for block in blocks:
        squares[block] = fixed_point.fold_columns((rows[block].astype(np.float64) - centre) ** 2)
    norms = np.sqrt(squares)
    rank = (len(norms) - 1) * 99 // 100
    limit = min(norms.max(), _OUTLIER_NORMS * np.partition(norms, rank)[rank])
    # Rounding moves a norm by up to sqrt(D) / 2.
    scale = (_LARGEST_NORM - math.sqrt(rows.shape[1]) / 2) / limit if limit else 0.0
    factors = scale * np.minimum(1, limit / np.maximum(norms, limit or 1))
    grid = np.empty(rows.shape, np.float32)
    for block in blocks:
        grid[block] = np.rint((rows[block].astype(np.float64) - centre) * factors[block, None])
    return grid


def _choose(grid: np.ndarray, weights: np.ndarray, num_clusters: int, seed: int, threads: int) -> np.ndarray:
    """Give the indices (K,) of the rows chosen, all different."""
    rng = np.random.Generator(np.random.PCG64(seed))
    num_trials = 2 + int(math.log(num_clusters))
    squares = np.einsum("nd,nd->n", grid, grid)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = _draw(rng, weights, 1)[0]
    with ThreadPoolExecutor(threads) as pool:
        closest = _squared_distances(grid, squares, chosen[:1], pool, threads)[0]
        free = weights.copy()
        free[chosen[0]] = 0
        for number in range(1, num_clusters):
            pull = free * closest
            # All rows left may lie on the grid points of chosen ones; they are distinct all the same.
            trials = _draw(rng, pull if pull.any() else free, num_trials)
            distances = np.minimum(_squared_distances(grid, squares, trials, pool, threads), closest)
            best = int(np.argmin([row @ weights for row in distances]))
            chosen[number], closest = trials[best], distances[best]
            free[trials[best]] = 0
    return chosen


def _draw(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """Draw indices (size,) with probability proportional to weights, float64 (n,) of whole numbers."""
    ends = np.cumsum(weights)
    drawn: np.ndarray = np.searchsorted(ends, rng.integers(int(ends[-1]), size=size), side="right")
    return drawn


def _squared_distances(
    grid: np.ndarray, squares: np.ndarray, chosen: np.ndarray, pool: ThreadPoolExecutor, parts: int
) -> np.ndarray:
    """Give the exact squared distances float32 (c, n) of all rows to the chosen ones, so many parts at once."""
    targets = np.ascontiguousarray(grid[chosen].T) * np.float32(-2)
    distances = np.empty((len(chosen), len(grid)), np.float32)

    def fill(part: slice) -> None:
        # In blocks that stay in cache the product reads memory once: 16 ms for 50,000 x 768 x 8 on a core, else 26-54.
        for begin in range(part.start, part.stop, _BLOCK_ROWS):
            block = slice(begin, min(begin + _BLOCK_ROWS, part.stop))
            distances[:, block] = (grid[block] @ targets).T
        distances[:, part] += squares[part]
        distances[:, part] += squares[chosen, None]

    edges = np.linspace(0, len(grid), parts + 1).astype(int).tolist()
    list(pool.map(fill, (slice(begin, end) for begin, end in zip(edges, edges[1:], strict=False))))
    return distances
