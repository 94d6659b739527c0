"""Rows and figures of speaker identification, and of verification by embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.metrics.verification import cosine_scores, equal_error_rate, min_dcf, operating_points
from pipeline.tasks.blocks.classes import class_measures, class_rows
from pipeline.tasks.sid.model import Speakers
from pipeline.training.recipe import Row


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How well cosines of embeddings tell speakers apart.

    Attributes:
        eer: Equal error rate.
        min_dcf: Least detection cost at a share of targets of 0.01, both costs 1.
        trials: How many.
    """

    eer: float
    min_dcf: float
    trials: int


def rows(found: Speakers, targets: torch.Tensor, speakers: Sequence[str]) -> list[Row]:
    """Say who each utterance was taken for, by the largest cosine, without the margin; see ``class_rows``."""
    return class_rows(found.cosines, targets, speakers)


def measure(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give ``accuracy``, ``error`` and ``uar`` of rows."""
    return class_measures(rows)


def verify(embeddings: np.ndarray, first: np.ndarray, second: np.ndarray, same: np.ndarray) -> Verification:
    """Judge a list of trials.

    Args:
        embeddings: (U, E), one per utterance.
        first: Row of each trial's first utterance, integers (N,).
        second: Row of its second, integers (N,).
        same: Whether both are of one speaker, bool (N,).

    Raises:
        ValueError: Trials of one kind are absent, or an embedding has no direction.
    """
    points = operating_points(cosine_scores(embeddings, first, second), same)
    return Verification(eer=equal_error_rate(points), min_dcf=min_dcf(points), trials=len(same))
