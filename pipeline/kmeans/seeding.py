"""First centroids by greedy k-means++, in integers, so that every machine chooses the same rows.

k-means++ needs squared distances only as weights of a draw. Rows are therefore rounded to a grid so coarse that all
distances and partial sums of a float32 matrix product are integers up to 2^24: they are exact, in any order, on any
processor and for any number of threads, and so are the draws. Cost: O(n * D * K * trials), memory 4 * n * D bytes.
Shapes: n rows, D width, K clusters.
"""

import math

import numpy as np

from pipeline.errors import SettingsError
from pipeline.kmeans import fixed_point

# Norms below 2^11 keep every partial sum of a doubled product, and every squared distance, within 2^24.
_LARGEST_NORM = 2047
_OUTLIER_NORMS = 4
_BLOCK_ROWS = 128


def kmeans_plus_plus(sample: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Choose K different rows as first centroids, far from each other.

    Each next row is the best of 2 + ln K candidates, drawn with probability proportional to the squared distance to
    the nearest row chosen before; the best leaves the least inertia, the first of equals. Equal rows count as one row
    with a weight. Distances are those of rows rounded to a grid, 2047 steps to the largest norm around the median of
    the rows; a row farther out than 4 times the 99th percentile of norms is weighted as if it lay there. No row is
    chosen twice.

    Source: D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; its section 6
    proposes the greedy choice. The integer grid is ours.

    Args:
        sample: float16 (n, D), finite.
        num_clusters: K.
        seed: Seed of ``numpy.random.PCG64``.

    Returns:
        float32 (K, D), rows of the sample in the order of their choice. The same on every machine and for any number
        of threads, given NumPy's stream of ``Generator.integers``.

    Raises:
        SettingsError: The sample has fewer than K distinct rows.
        ValueError: It is not float16 (n, D), or not finite.
    """
    if sample.dtype != np.float16 or sample.ndim != 2:
        raise ValueError(f"sample must be float16 (n, D), got {sample.dtype} {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("sample holds values that are not finite")
    rows, weights = _distinct(sample)
    if len(rows) < num_clusters:
        raise SettingsError(
            f"num_clusters is {num_clusters}, but the {len(sample)} rows sampled for k-means++ hold only {len(rows)} "
            "distinct ones; lower num_clusters or sample more rows"
        )
    chosen: np.ndarray = rows[_choose(_on_grid(rows), weights, num_clusters, seed)].astype(np.float32)
    return chosen


def _distinct(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the distinct rows in the order of their first appearance, and how often each appears, float64."""
    # Adding zero makes -0.0 and 0.0 the same bytes.
    plain = np.ascontiguousarray(sample + np.float16(0))
    keys = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.argsort(first)
    rows: np.ndarray = plain[first[order]]
    return rows, counts[order].astype(np.float64)


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


def _choose(grid: np.ndarray, weights: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Give the indices (K,) of the rows chosen, all different."""
    rng = np.random.Generator(np.random.PCG64(seed))
    num_trials = 2 + int(math.log(num_clusters))
    squares = np.einsum("nd,nd->n", grid, grid)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = _draw(rng, weights, 1)[0]
    closest = _squared_distances(grid, squares, chosen[:1])[0]
    free = weights.copy()
    free[chosen[0]] = 0
    for number in range(1, num_clusters):
        pull = free * closest
        # All rows left may lie on the grid points of chosen ones; they are distinct all the same.
        trials = _draw(rng, pull if pull.any() else free, num_trials)
        distances = np.minimum(_squared_distances(grid, squares, trials), closest)
        best = int(np.argmin([row @ weights for row in distances]))
        chosen[number], closest = trials[best], distances[best]
        free[trials[best]] = 0
    return chosen


def _draw(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """Draw indices (size,) with probability proportional to weights, float64 (n,) of whole numbers."""
    ends = np.cumsum(weights)
    drawn: np.ndarray = np.searchsorted(ends, rng.integers(int(ends[-1]), size=size), side="right")
    return drawn


def _squared_distances(grid: np.ndarray, squares: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Give the exact squared distances float32 (c, n) of all rows to the chosen ones."""
    targets = np.ascontiguousarray(grid[chosen].T) * np.float32(-2)
    distances = np.empty((len(chosen), len(grid)), np.float32)
    # In blocks that stay in cache the product reads memory once: 16 ms for 50,000 x 768 x 8 on one core, else 26-54.
    for begin in range(0, len(grid), _BLOCK_ROWS):
        block = slice(begin, begin + _BLOCK_ROWS)
        distances[:, block] = (grid[block] @ targets).T
    distances += squares
    distances += squares[chosen, None]
    return distances
