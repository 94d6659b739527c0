"""Waveforms of zero mean and unit variance: one arithmetic for encoders, their windows and their training.

Mean and variance are taken in float64, over the waveform's own samples alone: padding comes after.
"""

import math

import numpy as np

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a waveform before dividing, as the published encoders were trained."""


def normalized(waveform: np.ndarray) -> np.ndarray:
    """Bring a waveform (S,) to zero mean and unit variance; float32."""
    wide = waveform.astype(np.float64)
    return scaled(wide, mean=float(wide.mean()), variance=float(wide.var()))


def scaled(waveform: np.ndarray, *, mean: float, variance: float) -> np.ndarray:
    """Bring a stretch (S,) to zero mean and unit variance of the recording that it is part of.

    Args:
        waveform: Its samples, float32 or float64.
        mean: Of the recording.
        variance: Of the recording.

    Returns:
        float32 (S,).
    """
    found: np.ndarray = ((waveform.astype(np.float64) - mean) / deviation(variance)).astype(np.float32)
    return found


def deviation(variance: float) -> float:
    """Give what samples are divided by."""
    return math.sqrt(variance + VARIANCE_FLOOR)
