"""Rows and figures of utterances that were each put into one class."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pipeline.metrics.classification import accuracy, confusion_matrix, unweighted_average_recall
from pipeline.tasks.classes import STRANGER
from pipeline.training.recipe import Row


def class_rows(scores: torch.Tensor, targets: torch.Tensor, classes: Sequence[str]) -> list[Row]:
    """Say what each utterance is and what it was taken for.

    Args:
        scores: (B, C), the largest is the class taken.
        targets: int64 (B,); ``STRANGER`` for an utterance of no class.
        classes: Names (C).

    Returns:
        For each utterance ``hypothesis`` and ``reference`` by name, which a stranger has not, and the ``score`` of the
        hypothesis.
    """
    best, places = scores.float().max(dim=1)
    told = zip(best.tolist(), places.tolist(), targets.tolist(), strict=True)
    return [
        {"hypothesis": classes[place], "reference": None if target == STRANGER else classes[target], "score": score}
        for score, place, target in told
    ]


def confusion(rows: Sequence[Row], classes: Sequence[str]) -> np.ndarray:
    """Count rows by reference (row) and hypothesis (column), int64 (C, C)."""
    places = {name: place for place, name in enumerate(classes)}
    found = [[places[row[side]] for row in rows] for side in ("reference", "hypothesis")]
    return confusion_matrix(np.array(found[0], np.int64), np.array(found[1], np.int64), len(classes))


def class_measures(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give ``accuracy``, ``error`` (1 - accuracy) and ``uar``, the unweighted average recall, of rows."""
    names = sorted({row[side] for row in rows for side in ("reference", "hypothesis")})
    counted = confusion(rows, names)
    share = accuracy(counted)
    return {"accuracy": share, "error": 1 - share, "uar": unweighted_average_recall(counted)}
