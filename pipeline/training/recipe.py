"""What a training job gives the loop: networks, data, and what is learned from them. The loop knows no network.

Data come as *tickets*: small descriptions of micro-batches, the same on every worker, in an endless order. Worker r of
W loads every W-th ticket of a step, from r on, so that a step is the same whatever W is. A recipe gives sums, not
means: the loop divides them by counts over all workers, so that a frame weighs the same wherever it was computed.
"""

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from pipeline.errors import SettingsError
from pipeline.training.progress import AUDIO, Unit
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together

Json = Any
Tensors = dict[str, torch.Tensor]
Modules = Mapping[str, torch.nn.Module]
Row = Mapping[str, Any]


class Ticket(Protocol):
    """A micro-batch that any worker could load."""

    @property
    def key(self) -> str:
        """What tells it from all others of a run."""


AnyTicket = TypeVar("AnyTicket", bound=Ticket)


class Source(Protocol[AnyTicket]):
    """The data of a run, as one worker sees them.

    One thread draws tickets while others load; ``load`` may run in several threads at once.
    """

    def tickets(self, cursor: Json) -> Iterator[tuple[AnyTicket, Json]]:
        """Give micro-batches without end.

        Args:
            cursor: Where to begin, as it came with a ticket; None is the beginning.

        Yields:
            A ticket, and the cursor that begins after it.
        """

    def load(self, ticket: AnyTicket, step: int) -> Tensors:
        """Read and prepare one micro-batch; runs in threads beside the training.

        Args:
            ticket: Which.
            step: The step it is for, which random choices are keyed by.

        Returns:
            Tensors by name, on the CPU.
        """

    def validation(self) -> Mapping[str, Sequence[AnyTicket]]:
        """Give the micro-batches of each validation set by its name, always the same; none where nothing is validated.

        A set's name begins the names of its metrics: ``validation`` gives ``validation_loss``.
        """

    def close(self) -> None:
        """Let go of processes and files."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A network that is updated in each step, and what by.

    Attributes:
        name: What it is called in metrics and checkpoints.
        optimizer: How its weights are updated.
        losses: Weight of each loss by its name.
        module: Name of the network that it trains; default: its own.
        begins: Step, from 0, from which it is updated.
        loss_begins: Step from which a loss has its weight, 0 before; for losses that come later.
        ema_decay: Decay of an exponential average of the weights, which then is what is validated and published; lower
            in the first steps, so that the average forgets what they began with.
        skips_weights: Whether a micro-batch may leave weights without a gradient, as where blocks are skipped.
    """

    name: str
    optimizer: OptimizerSettings
    losses: Mapping[str, float]
    module: str = ""
    begins: int = 0
    loss_begins: Mapping[str, int] = field(default_factory=dict)
    ema_decay: float | None = None
    skips_weights: bool = False

    def __post_init__(self) -> None:
        if not self.losses:
            raise SettingsError(f"phase {self.name} has no losses")
        if self.begins < 0 or any(step < 0 for step in self.loss_begins.values()):
            raise SettingsError(f"phase {self.name} must begin at step 0 or later")
        if unknown := sorted(set(self.loss_begins) - set(self.losses)):
            raise SettingsError(f"phase {self.name} lets {', '.join(unknown)} begin, which are none of its losses")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise SettingsError(f"ema_decay must be in [0, 1), got {self.ema_decay}")

    @property
    def trains(self) -> str:
        """Name of the network that it trains."""
        return self.module or self.name

    def weights(self, step: int) -> dict[str, float]:
        """Give the weight of each loss at a step."""
        return {name: weight if step >= self.loss_begins.get(name, 0) else 0.0 for name, weight in self.losses.items()}


@dataclass(frozen=True)
class Sums:
    """A sum over a micro-batch and what divides it; its mean is over all micro-batches of all workers.

    Attributes:
        value: Scalar.
        count: Rows, frames or whatever it is a mean over; scalar.
    """

    value: torch.Tensor
    count: torch.Tensor


Losses = Mapping[str, torch.Tensor | Sums]
"""By name: the sum of a loss, which ``Recipe.counts`` divides, or ``Sums`` to watch, as of correct frames."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is said of one micro-batch of validation.

    Attributes:
        sums: Sums by the names of metrics; ``NAME_loss`` of a phase's loss is also added up to ``loss``.
        rows: A row of plain values per utterance, or for whatever is judged one by one.
    """

    sums: Mapping[str, Sums] = field(default_factory=dict)
    rows: Sequence[Row] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """A waveform to listen to, float32 (S,)."""

    name: str
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """A figure of matplotlib to look at."""

    name: str
    figure: Any


class Recipe(abc.ABC):
    """Networks and how they learn. It travels to the workers, so it holds settings and no tensors."""

    @property
    @abc.abstractmethod
    def phases(self) -> Sequence[Phase]:
        """What is updated in each step, in this order."""

    @property
    def unit(self) -> Unit:
        """What ``amount`` counts."""
        return AUDIO

    @abc.abstractmethod
    def build(self) -> Modules:
        """Make the networks by name with their first weights, the same on every worker.

        One that no phase trains is frozen, in evaluation mode, and in no checkpoint.
        """

    @abc.abstractmethod
    def source(self) -> Source[Any]:
        """Open the data."""

    @abc.abstractmethod
    def amount(self, batch: Tensors) -> float:
        """Say how much data a micro-batch is, in the recipe's unit; its tensors are on the CPU."""

    @abc.abstractmethod
    def counts(self, phase: str, batch: Tensors) -> Tensors:
        """Say what each loss of a phase is divided by, from the micro-batch alone: scalars by name."""

    @abc.abstractmethod
    def losses(self, phase: str, modules: Modules, batch: Tensors) -> Losses:
        """Compute the losses of a phase.

        While a phase is updated all other networks are frozen: no gradient reaches their weights, and what they give
        has none of its own.

        Args:
            phase: Its name.
            modules: All networks.
            batch: Tensors of a micro-batch.

        Returns:
            A scalar sum for each loss of the phase, and whatever else is to be watched.
        """

    def judge(self, modules: Modules, batch: Tensors) -> Judged:
        """Judge a micro-batch of validation; the losses of every phase, where a recipe says nothing else.

        Args:
            modules: All networks in evaluation mode, the average of the weights where a phase keeps one.
            batch: Tensors of a micro-batch.
        """
        found: dict[str, Sums] = {}
        for phase in self.phases:
            given = self.losses(phase.name, modules, batch)
            found |= labelled(self, phase, given, self.counts(phase.name, batch))
        return Judged(sums=found)

    def measure(self, validation: str, rows: Sequence[Row]) -> Mapping[str, float]:
        """Give metrics of all rows of a validation set, from all workers, in the order of its tickets."""
        return {}

    def show(self, modules: Modules, batch: Tensors) -> Sequence[Audio | Figure]:
        """Give what is to be heard and seen of the first micro-batch of each validation set."""
        return ()


def prefix_of(recipe: Recipe, phase: Phase) -> str:
    """Give what begins a phase's metrics: nothing where it is the only one."""
    return "" if len(recipe.phases) == 1 else f"{phase.name}_"


def labelled(recipe: Recipe, phase: Phase, losses: Losses, counts: Tensors) -> dict[str, Sums]:
    """Name losses and what is watched as the metrics they become."""
    prefix, found = prefix_of(recipe, phase), {}
    for name, given in losses.items():
        if isinstance(given, Sums):
            found[f"{prefix}{name}"] = given
        else:
            found[f"{prefix}{name}_loss"] = Sums(given, counts[name])
    return found


def check_recipe(recipe: Recipe, settings: TrainingSettings) -> None:
    """Refuse phases that cannot be trained so; needs no network.

    Raises:
        SettingsError: Two phases have one name or network, none begins at the first step, or a schedule does not fit.
    """
    phases = recipe.phases
    for what, names in (("name", [phase.name for phase in phases]), ("network", [phase.trains for phase in phases])):
        if len(set(names)) < len(names):
            raise SettingsError(f"phases must differ in their {what}, got {', '.join(names)}")
    if not any(phase.begins == 0 for phase in phases):
        raise SettingsError("no phase begins at step 0; let one, or number the others from there")
    for phase in phases:
        check_together(settings, phase.optimizer)
