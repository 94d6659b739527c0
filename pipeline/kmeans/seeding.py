"""First centroids by k-means++ on a sample.

Cost: K matrix-vector products over the distinct rows of the sample, 2 n K D operations, and their float32 copy.
It runs once, in one process: its choice is the same for the same sample, CPU type and thread count.
"""

import numpy as np

from pipeline.errors import SettingsError


def kmeans_plus_plus(sample: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Choose distinct rows as first centroids, each with probability proportional to its squared distance.

    Plain k-means++, one candidate a step. Equal rows count as one row with their number as weight, so none is
    chosen twice.

    Args:
        sample: float16 (n, D).
        num_clusters: K.
        seed: Of the choices.

    Returns:
        float32 (K, D).

    Raises:
        SettingsError: The sample has fewer than K distinct rows.

    Source: D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, section 2.
    """
    rows, weights = _distinct(sample)
    if len(rows) < num_clusters:
        raise SettingsError(
            f"the sample for k-means++ has {len(rows)} distinct rows, fewer than num_clusters {num_clusters}; "
            "lower num_clusters or keep more frames"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    wide_ND = rows.astype(np.float32)
    squares_N = (wide_ND.astype(np.float64) ** 2).sum(axis=1)
    chosen = [_draw(rng, weights.astype(np.float64))]
    distances_N = np.full(len(rows), np.inf)
    while len(chosen) < num_clusters:
        last = chosen[-1]
        to_last_N = squares_N - 2.0 * (wide_ND @ wide_ND[last]) + squares_N[last]
        # Rounding may leave a distance at or below zero; a distinct row must stay possible.
        distances_N = np.minimum(distances_N, np.maximum(to_last_N, 1e-12))
        distances_N[last] = 0.0
        chosen.append(_draw(rng, weights * distances_N))
    return wide_ND[chosen]


def _distinct(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the distinct rows, in the order of their first appearance, and how often each occurs."""
    # Adding 0 makes -0.0 and 0.0 one value, since rows are compared by their bytes.
    plain = np.ascontiguousarray(sample + np.float16(0))
    keys = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1]))).ravel()
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.argsort(first)
    return plain[first[order]], counts[order]


def _draw(rng: np.random.Generator, weights: np.ndarray) -> int:
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right").clip(0, len(weights) - 1))
