"""Exact sums: the same integer for any order and any partition of the rows.

Every finite float16 is a multiple of 2^-24 below 2^16, so sums of features are integers in units of 2^-24. They are
kept in two int64 limbs, value = high * 2^32 + low with 0 <= low < 2^32, which hold 2^45 rows of the largest
magnitude; one int64 would overflow at 2^23 rows of 65504. Squared distances are rounded to the same unit and summed
as integers too. Shapes: n rows, D width.
"""

import numpy as np

FRACTION_BITS = 24
LIMB_BITS = 32
LARGEST = 2.0**53
"""Distances from here on are refused: their float64 has no fraction left."""

_LIMB_MASK = (1 << LIMB_BITS) - 1
_SPLIT_BITS = 22


def sum_rows(rows: np.ndarray) -> np.ndarray:
    """Sum rows of float16 values exactly.

    Args:
        rows: float64 (n, D) whose values are float16 values; n at most 8192, so that n * 65504 * 2^24 is below
            2^53 and float64 makes no rounding in any order.

    Returns:
        int64 (D,) in units of 2^-24.
    """
    sums: np.ndarray = (np.add.reduce(rows, axis=0) * 2.0**FRACTION_BITS).astype(np.int64)
    return sums


def fold_columns(values: np.ndarray) -> np.ndarray:
    """Sum each row over its columns in an order that depends on D alone.

    The upper half is added to the lower until one column is left. A library's own reduction may choose another order
    for other shapes, processors or versions.

    Args:
        values: float64 (n, D), overwritten.

    Returns:
        float64 (n,).
    """
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0].copy()


def split_limbs(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split int64 sums into their high and low limbs."""
    return sums >> LIMB_BITS, sums & _LIMB_MASK


def carry(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring limbs, whose low one has grown, back to their one canonical form."""
    return high + (low >> LIMB_BITS), low & _LIMB_MASK


def limbs_to_float(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Give the float64 nearest to each sum, in units of 1: both limbs are exact, so it is rounded once."""
    value: np.ndarray = (high.astype(np.float64) * 2.0**LIMB_BITS + low.astype(np.float64)) * 2.0**-FRACTION_BITS
    return value


def total(values: np.ndarray) -> int:
    """Round values to units of 2^-24 and sum them exactly.

    Args:
        values: float64 (n,), in [0, 2^53), n below 2^32.

    Returns:
        The sum in units of 2^-24.

    Raises:
        ValueError: A value is out of range or not finite.
    """
    if not (values < LARGEST).all():
        raise ValueError("squared distances must be finite and below 2^53; are features and centroids finite?")
    whole = np.floor(values)
    fraction = np.rint((values - whole) * 2.0**FRACTION_BITS).astype(np.int64)
    units = whole.astype(np.int64)
    upper, lower = int((units >> _SPLIT_BITS).sum()), int((units & ((1 << _SPLIT_BITS) - 1)).sum())
    return (((upper << _SPLIT_BITS) + lower) << FRACTION_BITS) + int(fraction.sum())
