"""Emotion recognition as a task.

Letters: B batch, T frames, H width, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.tasks.blocks.settings import EcapaSettings
from pipeline.tasks.classes import CLASSES, class_tensors
from pipeline.tasks.er import metrics
from pipeline.tasks.er.criterion import class_losses, weight_of
from pipeline.tasks.er.model import ErModel
from pipeline.tasks.task import Task
from pipeline.training.recipe import Row, Tensors


@dataclass(frozen=True, kw_only=True)
class ErTask(Task):
    """Which emotion is heard.

    Attributes:
        ecapa: Sizes of the network.
        classes: Emotions (C), sorted.
        weights: Weight of each in the loss (C); None weighs all alike.
    """

    ecapa: EcapaSettings
    classes: tuple[str, ...]
    weights: tuple[float, ...] | None

    name = "er"
    label = "emotion"
    loss_name = "class"
    best_by = "uar"
    best_order = "max"

    def head(self, dim: int) -> torch.nn.Module:
        """Make the ECAPA-TDNN with a linear layer."""
        return ErModel(dim, len(self.classes), self.ecapa)

    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give the emotions as numbers, int64 (B,)."""
        return class_tensors(labels, self.classes, self.label)

    def count(self, batch: Tensors) -> torch.Tensor:
        """Weights of the utterances, added up."""
        return weight_of(batch[CLASSES], self.weights)

    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Sum of the utterances' weighted losses, nats."""
        return class_losses(output, batch[CLASSES], self.weights).sum()

    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Say which emotion each utterance was taken for."""
        return metrics.rows(output, batch[CLASSES], self.classes)

    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Accuracy, error and unweighted average recall."""
        return metrics.measure(rows)

    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again."""
        weights = None if self.weights is None else list(self.weights)
        return {"ecapa": asdict(self.ecapa), "classes": list(self.classes), "weights": weights}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ErTask":
        """Make it of what ``to_json`` gave."""
        weights = None if given["weights"] is None else tuple(given["weights"])
        return cls(ecapa=EcapaSettings(**given["ecapa"]), classes=tuple(given["classes"]), weights=weights)
