"""Speaker identification as a task.

Letters: B batch, T frames, H width, C speakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch

from pipeline.tasks.blocks.settings import EcapaSettings
from pipeline.tasks.classes import CLASSES, class_tensors
from pipeline.tasks.sid import metrics
from pipeline.tasks.sid.criterion import margin_losses
from pipeline.tasks.sid.model import SidModel
from pipeline.tasks.sid.settings import SidSettings
from pipeline.tasks.task import Task
from pipeline.training.recipe import Row, Tensors


@dataclass(frozen=True, kw_only=True)
class SidTask(Task):
    """Which of the speakers of training speaks.

    Attributes:
        ecapa: Sizes of the network.
        settings: The loss.
        classes: Speakers (C), sorted.
        strangers: Whether utterances may be of other speakers, as where embeddings alone are judged.
    """

    ecapa: EcapaSettings
    settings: SidSettings
    classes: tuple[str, ...]
    strangers: bool = False

    name = "sid"
    label = "speaker"
    loss_name = "margin"
    best_by = "accuracy"
    best_order = "max"

    def head(self, dim: int) -> torch.nn.Module:
        """Make the ECAPA-TDNN with a direction per speaker."""
        return SidModel(dim, len(self.classes), self.ecapa)

    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give the speakers as numbers, int64 (B,)."""
        return class_tensors(labels, self.classes, self.label, strangers=self.strangers)

    def count(self, batch: Tensors) -> torch.Tensor:
        """Utterances."""
        return torch.tensor(float(len(batch[CLASSES])), device=batch[CLASSES].device)

    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Sum of the utterances' losses, nats."""
        settings = self.settings
        return margin_losses(output.cosines, batch[CLASSES], margin=settings.margin, scale=settings.scale).sum()

    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Say who each utterance was taken for."""
        return metrics.rows(output, batch[CLASSES], self.classes)

    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Accuracy, error and unweighted average recall."""
        return metrics.measure(rows)

    def tested(self) -> Self:
        """Let utterances be of speakers that training never had: their embeddings can be compared."""
        return replace(self, strangers=True)

    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again."""
        return {"ecapa": asdict(self.ecapa), "sid": asdict(self.settings), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "SidTask":
        """Make it of what ``to_json`` gave."""
        ecapa, settings = EcapaSettings(**given["ecapa"]), SidSettings(**given["sid"])
        return cls(ecapa=ecapa, settings=settings, classes=tuple(given["classes"]))
