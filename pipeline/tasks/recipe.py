"""What a task gives the training loop: the fuser and the task's own network, trained together.

Letters: B batch, T frames, L layers, H width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.fusion.fuser import Fused, build_fuser
from pipeline.fusion.spec import FuserSpec
from pipeline.tasks.source import FRAMES, PRESENT, TaskData, TaskSource
from pipeline.tasks.task import Task
from pipeline.training.progress import UTTERANCES, Unit
from pipeline.training.recipe import Judged, Losses, Modules, Phase, Recipe, Row, Sums, Tensors
from pipeline.training.settings import OptimizerSettings

NETWORK = "model"
"""Name of the fuser with the task's network, in checkpoints."""


class TaskModel(torch.nn.Module):
    """A fuser, and what predicts from the fused sequence."""

    def __init__(self, fuser: torch.nn.Module, head: torch.nn.Module) -> None:
        super().__init__()
        self.fuser, self.head = fuser, head

    def forward(self, batch: Tensors) -> tuple[Fused, Any]:
        """Fuse and predict.

        Args:
            batch: ``frames`` (B, T, L) or (B, T, L, D), ``frames_mask`` bool (B, T); ``frames_present`` bool (B, T, L)
                where frames lack layers; what the task's network names as ``further``, where it is there.

        Returns:
            What was fused, and what the task's network gives.
        """
        mask = batch[f"{FRAMES}_mask"]
        fused: Fused = self.fuser(batch[FRAMES], mask, batch.get(PRESENT))
        further: tuple[str, ...] = getattr(self.head, "further", ())
        return fused, self.head(fused.values, mask, **{name: batch[name] for name in further if name in batch})


@dataclass(frozen=True, kw_only=True)
class TaskRecipe(Recipe):
    """A task on tokens; see ``pipeline.training.recipe.Recipe``.

    Attributes:
        data: What to read.
        task: What is predicted.
        fuser: How layers become one sequence.
        optimizer: How weights are updated.
    """

    data: TaskData
    task: Task
    fuser: FuserSpec
    optimizer: OptimizerSettings

    @property
    def phases(self) -> Sequence[Phase]:
        """The fuser and the task's network, updated together."""
        return (Phase(name=NETWORK, optimizer=self.optimizer, losses={self.task.loss_name: 1.0}),)

    @property
    def unit(self) -> Unit:
        """Utterances."""
        return UTTERANCES

    def build(self) -> Modules:
        """Make the fuser and the task's network."""
        fuser = build_fuser(self.fuser)
        return {NETWORK: TaskModel(fuser, self.task.head(fuser.dim))}

    def source(self) -> TaskSource:
        """Open the data."""
        return TaskSource(self.data, self.task)

    def amount(self, batch: Tensors) -> float:
        """Utterances."""
        return len(batch[FRAMES])

    def counts(self, phase: str, batch: Tensors) -> Tensors:
        """Say what the loss is divided by."""
        return {self.task.loss_name: self.task.count(batch)}

    def losses(self, phase: str, modules: Modules, batch: Tensors) -> Losses:
        """Predict and compare."""
        model = modules[NETWORK]
        _, output = model(batch)
        loss = self.task.loss(model.head, output, batch)  # type: ignore[arg-type]
        return {self.task.loss_name: loss, **self.task.watched(output, batch)}

    def judge(self, modules: Modules, batch: Tensors) -> Judged:
        """Give the loss, the mean weight of each layer, and a row per utterance."""
        model = modules[NETWORK]
        fused, output = model(batch)
        head: torch.nn.Module = model.head  # type: ignore[assignment]
        loss = self.task.loss(head, output, batch)
        sums = {f"{self.task.loss_name}_loss": Sums(loss, self.task.count(batch)), **self.task.watched(output, batch)}
        if fused.weights is not None:
            frames = batch[f"{FRAMES}_mask"].sum()
            totals = fused.weights.sum(dim=(0, 1))
            sums |= {
                f"weight_{name}": Sums(total, frames) for name, total in zip(self.fuser.columns, totals, strict=True)
            }
        return Judged(sums=sums, rows=self.task.rows(head, output, batch))

    def measure(self, validation: str, rows: Sequence[Row]) -> Mapping[str, float]:
        """Give the task's metrics."""
        return self.task.measure(rows)
