"""Rows and figures of emotion recognition."""

from collections.abc import Mapping, Sequence

import torch

from pipeline.tasks.blocks.classes import class_measures, class_rows
from pipeline.training.recipe import Row


def rows(logits: torch.Tensor, targets: torch.Tensor, emotions: Sequence[str]) -> list[Row]:
    """Say which emotion each utterance was taken for, and with which probability as ``score``."""
    return class_rows(logits.softmax(dim=1), targets, emotions)


def measure(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give ``accuracy``, ``error`` and ``uar`` of rows."""
    return class_measures(rows)
