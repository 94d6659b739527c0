"""The networks of a run while they are trained: one optimizer, one average and one DDP per phase.

A phase's losses are computed inside its DDP, with the plain networks, so a recipe may call a network as often as it
likes. ``broadcast_buffers`` is off: a broadcast would change buffers that an earlier call in the same step has saved
for backward; ``World.share_buffers`` makes them equal instead, at validations and checkpoints.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from pipeline.errors import CheckpointError, SettingsError, TrainingError
from pipeline.seeds import torch_seed
from pipeline.training.optimizer import make_optimizer, optimizer_state, restore_optimizer
from pipeline.training.recipe import Modules, Phase, Recipe, Sums, Tensors, labelled, prefix_of
from pipeline.training.schedules import Memory, learning_rate
from pipeline.training.settings import TrainingSettings
from pipeline.training.tally import Tally
from pipeline.training.world import World

States = dict[str, dict[str, torch.Tensor]]


class _Losses(torch.nn.Module):
    """The losses of a phase as a forward pass, which DDP asks for."""

    def __init__(self, recipe: Recipe, phase: Phase, modules: Modules) -> None:
        super().__init__()
        self.trained = modules[phase.trains]
        # In a tuple, so that DDP does not see the networks of other phases.
        self._all = (modules,)
        self._recipe, self._phase = recipe, phase
        self.watched: dict[str, Sums] = {}

    def forward(self, batch: Tensors, counts: Tensors) -> Tensors:
        """Give the sum of each loss; ``watched`` then has all sums by metric."""
        found = self._recipe.losses(self._phase.name, self._all[0], batch)
        losses = {name: found.get(name) for name in self._phase.losses}
        absent = [name for name, value in losses.items() if not torch.is_tensor(value)]
        if absent:
            raise TrainingError(f"the recipe gave no loss {', '.join(absent)} in phase {self._phase.name}")
        self.watched = labelled(self._recipe, self._phase, found, counts)
        return {name: value for name, value in losses.items() if torch.is_tensor(value)}


class TrainedPhase:
    """One phase: its network, optimizer, average and DDP."""

    def __init__(
        self, recipe: Recipe, phase: Phase, modules: Modules, settings: TrainingSettings, world: World
    ) -> None:
        self.phase, self.module = phase, modules[phase.trains]
        self._recipe, self._settings, self._world = recipe, settings, world
        self._prefix = prefix_of(recipe, phase)
        self.weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        if not self.weights:
            raise SettingsError(f"phase {phase.name} has no weights to train: {phase.trains} is frozen")
        self.optimizer = make_optimizer(self.module, phase.optimizer)
        self.average: AveragedModel | None = None
        if phase.ema_decay is not None:
            self.average = AveragedModel(self.module, multi_avg_fn=_averaging(phase.ema_decay))
        self._losses = _Losses(recipe, phase, modules)
        self._parallel: torch.nn.Module = self._losses

    def connect(self) -> None:
        """Join with the other workers; weights become the first worker's."""
        if self._world.size > 1:
            self._parallel = DistributedDataParallel(
                self._losses,
                device_ids=[self._world.device] if self._world.device.type == "cuda" else None,
                find_unused_parameters=self.phase.skips_weights,
                broadcast_buffers=False,
            )

    def rate(self, step: int, memory: Memory | None) -> float:
        """Give the learning rate of a step."""
        return learning_rate(self.phase.optimizer, self._settings.num_steps, step, memory)

    def step(
        self, step: int, keys: Sequence[str], batches: Sequence[Tensors], memory: Memory | None, tally: Tally
    ) -> None:
        """Update the weights once.

        Args:
            step: From 0.
            keys: Key of each of this worker's micro-batches.
            batches: Their tensors, where the network is.
            memory: What the schedule remembers.
            tally: Where sums go.
        """
        world, settings = self._world, self._settings
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step, memory)
        weights = self.phase.weights(step)
        names = sorted(weights)
        counts = [self._counts(names, batch) for batch in batches]
        totals = world.sum(torch.stack([_column(names, each) for each in counts]).sum(dim=0))
        for place, (key, batch) in enumerate(zip(keys, batches, strict=True)):
            # The same in each phase, so that a discriminator hears what the generator is then updated by.
            torch.manual_seed(torch_seed(settings.seed, "dropout", step, key))
            last = place == len(batches) - 1
            wait = contextlib.nullcontext() if last or world.size == 1 else self._parallel.no_sync()  # type: ignore[operator]
            with wait:
                with autocast(settings, world):
                    sums: Tensors = self._parallel(batch, counts[place])
                parts = [
                    weights[name] * sums[name] / total.clamp(min=1).float()
                    for name, total in zip(names, totals, strict=True)
                ]
                # Gradients are averaged over workers, and are to be added.
                torch.autograd.backward([torch.stack(parts).sum() * world.size])
            tally.add(self._losses.watched)
            self._losses.watched = {}
        self._update(tally)

    def _counts(self, names: Sequence[str], batch: Tensors) -> Tensors:
        counts = self._recipe.counts(self.phase.name, batch)
        if absent := [name for name in names if name not in counts]:
            raise TrainingError(f"the recipe counts nothing for the loss {', '.join(absent)} in {self.phase.name}")
        return counts

    def _update(self, tally: Tally) -> None:
        for weight in self.weights:
            if weight.grad is None:
                # Skipped in the whole step; Adam would not count this step for it.
                weight.grad = torch.zeros_like(weight)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.phase.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.module)
        first = self._world.rank == 0
        tally.add_numbers(**{f"{self._prefix}gradient_norm": (norm, 1.0) if first else (0.0, 0.0)})

    def states(self, *, begun: bool) -> States:
        """Give what a checkpoint holds of this phase: weights, average, and the optimizer's state once it has one."""
        phase = self.phase
        found: States = {phase.trains: dict(self.module.state_dict())}
        if self.average is not None:
            found[f"ema.{phase.trains}"] = dict(self.average.state_dict())
        if begun:
            found[f"optimizer.{phase.name}"] = optimizer_state(self.module, self.optimizer)
        return found

    def restore(self, states: Mapping[str, Mapping[str, torch.Tensor]], *, begun: bool) -> None:
        """Take up what ``states`` gave.

        Raises:
            CheckpointError: A state is missing, or does not fit the network.
        """
        phase = self.phase
        try:
            self.module.load_state_dict(states[phase.trains])
            if self.average is not None:
                self.average.load_state_dict(states[f"ema.{phase.trains}"])
            if begun:
                restore_optimizer(self.module, self.optimizer, states[f"optimizer.{phase.name}"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint does not fit phase {phase.name}: {error}") from error

    @torch.no_grad()
    def follow_buffers(self) -> None:
        """Give the average the network's buffers, after they were made equal on all workers."""
        if self.average is not None:
            for own, given in zip(self.average.module.buffers(), self.module.buffers(), strict=True):
                own.copy_(given)


def autocast(settings: TrainingSettings, world: World) -> torch.autocast:
    """Give the number format in which a network computes."""
    return torch.autocast(world.device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16")


def _column(names: Sequence[str], counts: Tensors) -> torch.Tensor:
    return torch.stack([counts[name].double() for name in names])


def freeze_others(trained: Sequence[TrainedPhase], phase: TrainedPhase) -> None:
    """Let gradients reach the weights of one phase alone."""
    if len(trained) > 1:
        for each in trained:
            for weight in each.weights:
                weight.requires_grad_(each is phase)


def moved(batch: Tensors, device: torch.device) -> Tensors:
    """Bring a micro-batch to where the networks are."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def check_modules(recipe: Recipe, modules: Modules) -> None:
    """Refuse phases whose networks were not built.

    Raises:
        SettingsError: One is missing.
    """
    absent = sorted({phase.trains for phase in recipe.phases} - set(modules))
    if absent:
        raise SettingsError(f"phases train {', '.join(absent)}, but build() gave {', '.join(sorted(modules))}")


def _averaging(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], torch.Tensor | int], None]:
    """Give the update of an average that soon forgets the weights it began with.

    After n updates the decay is at most (1 + n) / (10 + n), as TensorFlow's ``ExponentialMovingAverage`` has it.
    """

    @torch.no_grad()
    def update(averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        count = float(updates)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for average, weights in zip(averaged, current, strict=True):
            average.lerp_(weights, weight)

    return update
