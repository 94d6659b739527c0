"""The entropy of counts, the measure that cards have in common."""

import math

import numpy as np


def entropy(counts: np.ndarray) -> float:
    """Give the entropy in bits of counts of any shape; 0 where there are none.

    It is the plain estimate, which for N counted things is too small by about (filled cells - 1) / (2 N ln 2).
    """
    filled = counts[counts > 0].astype(np.float64)
    total = math.fsum(filled)
    if not total:
        return 0.0
    return max(0.0, math.log2(total) - math.fsum(filled * np.log2(filled)) / total)
