"""Accuracy, recall and confusion of predicted classes.

Letters: N utterances, C classes.
"""

import numpy as np


def confusion_matrix(targets: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count utterances by what they are and what they were taken for.

    Args:
        targets: Class of each utterance, integers (N,).
        predicted: Class that each was taken for, integers (N,).
        num_classes: C.

    Returns:
        int64 (C, C): row is the true class, column the predicted one.

    Raises:
        ValueError: Lengths differ, or a class is not in [0, C).
    """
    targets, predicted = np.asarray(targets, np.int64), np.asarray(predicted, np.int64)
    if targets.shape != predicted.shape:
        raise ValueError(f"{len(targets)} targets and {len(predicted)} predictions")
    both = np.concatenate([targets, predicted])
    if len(both) and not (both.min() >= 0 and both.max() < num_classes):
        raise ValueError(f"classes must be in [0, {num_classes}), got {both.min()} to {both.max()}")
    counted = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    confusion: np.ndarray = counted.reshape(num_classes, num_classes).astype(np.int64)
    return confusion


def accuracy(confusion: np.ndarray) -> float:
    """Give the share of utterances that were taken for what they are; nan where there are none."""
    return float(np.trace(confusion) / confusion.sum()) if confusion.sum() else float("nan")


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Give the share of each class that was found, float64 (C,); nan for a class without utterances."""
    totals = confusion.sum(axis=1)
    found: np.ndarray = np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return found


def unweighted_average_recall(confusion: np.ndarray) -> float:
    """Give the mean recall over the classes that occur; nan where none does."""
    found = recalls(confusion)
    there = found[~np.isnan(found)]
    return float(there.mean()) if len(there) else float("nan")
