"""What a task is: a label that is predicted, a network that predicts it, a loss, and how well it is done.

Letters: B batch, T frames, H width, L layers.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch

from pipeline.tasks.source import Targets
from pipeline.training.recipe import Row, Sums, Tensors


class Task(Targets):
    """A task. It travels to the workers, so it holds settings, alphabets and classes, and no tensors."""

    name: str
    """What it is called: asr, sid, er, tts."""
    loss_name: str
    """What its loss is called in metrics."""
    best_by: str
    """Metric of validation that says which weights are the best: one of its rows, or loss."""
    best_order: Literal["min", "max"]
    """Whether the best is the smallest or the largest."""

    @abc.abstractmethod
    def head(self, dim: int) -> torch.nn.Module:
        """Make the network: ``forward(fused (B, T, H), mask bool (B, T))`` gives what the methods below take.

        One that takes more of a micro-batch names it as ``further``.

        Args:
            dim: Width of the fused sequence (H).
        """

    @abc.abstractmethod
    def count(self, batch: Tensors) -> torch.Tensor:
        """Say what the loss is divided by, from the micro-batch alone; scalar."""

    @abc.abstractmethod
    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Give the sum of the loss over a micro-batch; scalar."""

    def watched(self, output: Any, batch: Tensors) -> Mapping[str, Sums]:
        """Give what else is to be watched in training and validation."""
        return {}

    @abc.abstractmethod
    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Give what is said of each utterance, and what is right."""

    @abc.abstractmethod
    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Give the metrics of rows."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again, as plain JSON values."""

    def tested(self) -> Self:
        """Give the task as it is tested: what it cannot predict is no target, and counts as an error."""
        return self
