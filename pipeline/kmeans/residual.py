"""What a centroid leaves of a row: the input of the next stage of a residual quantiser."""

import numpy as np


def residual(features: np.ndarray, centroids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Subtract from each row its centroid; float16 (n, D)."""
    left: np.ndarray = (features.astype(np.float64) - centroids[tokens]).astype(np.float16)
    return left
