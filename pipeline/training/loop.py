"""One loop for every training job: phases, validation, logging and checkpoints. Knows no Ray.

A step's losses are sums over all workers divided by counts over all workers, and dropout is keyed by micro-batch, so
1 and 2 workers compute the same steps up to the order of float32 sums, and a resumed run the steps of one that never
stopped. BatchNorm normalises by the statistics of one micro-batch, so steps do not depend on the workers either; the
running statistics that evaluation takes are each worker's own between checkpoints, then their mean. Memory of a worker:
weights, gradients and the optimizer's state (16 bytes a parameter with AdamW, 20 with an average), one micro-batch's
activations, and the micro-batches that ``Feed`` holds.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from pipeline import faults
from pipeline.errors import CheckpointError, DatasetError, TrainingError
from pipeline.seeds import torch_seed
from pipeline.store.dataset import SUCCESS
from pipeline.store.storage import Store
from pipeline.training.checkpoint import keep, latest, read_checkpoint, save_checkpoint
from pipeline.training.feed import Feed, StepInput
from pipeline.training.figures import MeterListener
from pipeline.training.listeners import Listener, Pace, StoreListener, named
from pipeline.training.progress import Best, Progress
from pipeline.training.recipe import Modules, Recipe, Row, Source, check_recipe, prefix_of
from pipeline.training.schedules import remember
from pipeline.training.settings import TrainingSettings
from pipeline.training.tally import Tally, means, not_finite
from pipeline.training.tensorboard import open_tensorboard
from pipeline.training.trained import TrainedPhase, check_modules, freeze_others, moved
from pipeline.training.validation import Validation
from pipeline.training.world import World
from pipeline.work.machine import warn_of_bfloat16
from pipeline.work.meters import SILENT, Meter
from pipeline.work.narrow_convolutions import widen_narrow_convolutions

logger = logging.getLogger(__name__)

_AMOUNT = "amount"


class Loop:
    """A training run, as one worker sees it."""

    def __init__(
        self,
        recipe: Recipe,
        settings: TrainingSettings,
        store: Store,
        world: World,
        *,
        listeners: Sequence[Listener] = (),
        leaving: Callable[[], bool] | None = None,
        meter: Meter = SILENT,
        stage: str = "training",
    ) -> None:
        """Build the networks and go to the latest checkpoint.

        Args:
            recipe: Networks, data and losses.
            settings: How to train.
            store: The run's folder; all workers see it.
            world: This worker's place.
            listeners: What hears of the run on this worker, beside the store and TensorBoard.
            leaving: Asked by all workers at each line of the log: whether a node is about to be taken away, so that a
                checkpoint is wanted now.
            meter: Takes the run's metrics, of the first worker.
            stage: What is trained, as metrics name it.

        Raises:
            SettingsError: The phases do not fit each other, the settings or the networks.
            CheckpointError: The latest checkpoint is of other networks.
        """
        check_recipe(recipe, settings)
        if world.rank == 0:
            warn_of_bfloat16(world.device.type, settings.dtype)
        self._recipe, self._settings, self._store, self._world = recipe, settings, store, world
        self._extra, self._leaving, self._left = listeners, leaving, False
        self._meter, self._stage = meter, stage
        self._began = time.monotonic()
        torch.manual_seed(torch_seed(settings.seed, "weights"))
        self._modules: Modules = {name: module.to(world.device) for name, module in recipe.build().items()}
        check_modules(recipe, self._modules)
        for module in self._modules.values():
            widen_narrow_convolutions(module, world.device, getattr(torch, settings.dtype))
        self._trained = [TrainedPhase(recipe, phase, self._modules, settings, world) for phase in recipe.phases]
        self._still = [
            self._modules[name] for name in set(self._modules) - {each.phase.trains for each in self._trained}
        ]
        for module in self._still:
            module.requires_grad_(False)
        self._progress = Progress()
        self._resume()
        self._seconds = self._progress.seconds
        for each in self._trained:
            each.connect()

    def _resume(self) -> None:
        step = self._world.agree(latest(self._store) if self._world.rank == 0 else None)
        if step is None:
            return
        found = read_checkpoint(self._store, step)
        try:
            for each in self._trained:
                each.restore(found.states, begun=step > each.phase.begins)
        except CheckpointError as error:
            raise CheckpointError(f"{self._store.uri}, step {step}: {error}; train again in another folder") from error
        self._progress = found.progress
        if self._world.rank == 0:
            logger.info("training goes on after step %d", step)

    def run(self) -> Progress:
        """Train to the end: the last step, no better validation for so long, or no more time.

        Returns:
            Where the run ended, with its history.

        Raises:
            TrainingError: A loss is not finite, or the recipe gives other sums than it says.
            PipelineError: What reading the data raised.
        """
        if is_over(self._progress, self._settings):
            return self._progress
        self._progress = replace(self._progress, ended=None)
        settings, world = self._settings, self._world
        source = self._recipe.source()
        feed = Feed(
            source,
            first_step=self._progress.step,
            num_steps=settings.num_steps,
            cursor=self._progress.cursor,
            batches_per_step=settings.batches_per_step,
            rank=world.rank,
            world_size=world.size,
            loaders=settings.loaders,
        )
        self._listeners = [*self._own_listeners(), *self._extra]
        try:
            self._train(feed, source)
        finally:
            feed.close()
            source.close()
            for listener in self._listeners:
                listener.close()
        return self._progress

    def _own_listeners(self) -> list[Listener]:
        if self._world.rank > 0:
            return []
        progress, num_steps, uri = self._progress, self._settings.num_steps, self._store.uri
        pace = Pace(progress, self._recipe.unit)
        own: list[Listener] = [
            StoreListener(self._store, num_steps=num_steps, workers=self._world.size, pace=pace),
            MeterListener(self._meter, stage=self._stage, uri=uri, num_steps=num_steps, progress=progress, pace=pace),
        ]
        board = open_tensorboard(self._store, progress.step)
        return own if board is None else [*own, board]

    def _train(self, feed: Feed, source: Source[Any]) -> None:
        settings = self._settings
        window, first = Tally(self._world.device), self._progress.step
        validation: Validation | None = None
        for given in feed:
            window.merge(self._step(given))
            step = given.step + 1
            self._progress = replace(self._progress, step=step, cursor=given.cursor)
            last = step == settings.num_steps
            validates = bool(settings.validate_every) and (step % settings.validate_every == 0 or last)
            saves = step % settings.checkpoint_every == 0 or last
            rows: Mapping[str, Sequence[Row]] = {}
            # Before each checkpoint too: it holds no half-full window, and no weights of a loss that was not finite.
            if step % settings.log_every == 0 or saves or (validates and settings.best_by):
                self._log(window, first)
                window, first = Tally(self._world.device), step
                saves = self._out_of_time() or saves
                validates = validates or (self._progress.ended is not None and bool(settings.validate_every))
            if validates:
                if validation is None:
                    validation = Validation(self._recipe, settings, self._world, source)
                rows = self._validate(validation)
                saves = saves or self._progress.ended is not None or self._is_best()
            if last:
                self._progress = replace(self._progress, ended="steps")
            if saves:
                self._save(rows)
            faults.point("after_step", f"rank {self._world.rank} step {step}")
            if self._progress.ended is not None:
                break

    def _step(self, given: StepInput) -> Tally:
        """Compute one step and give its sums, of this worker's micro-batches."""
        batches = [moved(batch, self._world.device) for batch in given.batches]
        tally = Tally(self._world.device)
        for each in self._trained:
            each.module.train()
        for module in self._still:
            module.eval()
        for each in self._trained:
            if given.step >= each.phase.begins:
                freeze_others(self._trained, each)
                memory = self._progress.schedules.get(each.phase.name)
                each.step(given.step, given.keys, batches, memory, tally)
        amount = sum(self._recipe.amount(batch) for batch in given.batches)
        tally.add_numbers(**{_AMOUNT: (amount, 0.0)})
        return tally

    def _log(self, window: Tally, first: int) -> None:
        step = self._progress.step
        totals = window.summed(self._world)
        amount, _ = totals.pop(_AMOUNT)
        seconds = self._seconds + time.monotonic() - self._began
        self._progress = replace(self._progress, amount=self._progress.amount + amount, seconds=seconds)
        metrics = means(self._recipe, totals, step - 1)
        if not_finite(metrics):
            when = f"at step {step}" if step == first + 1 else f"in steps {first + 1} to {step}"
            raise TrainingError(
                f"the loss is not finite {when} ({metrics}); "
                "lower --lr, lengthen --warmup-steps, or use --dtype float32"
            )
        for each in self._trained:
            if step > each.phase.begins:
                memory = self._progress.schedules.get(each.phase.name)
                metrics[f"{prefix_of(self._recipe, each.phase)}lr"] = each.rate(step - 1, memory)
        self._tell("", metrics)

    def _tell(self, group: str, metrics: Mapping[str, float]) -> None:
        if self._world.rank == 0:
            self._progress.history.append({"step": self._progress.step, **named(group, metrics)})
        for listener in self._listeners:
            listener.log(self._progress, group, metrics)

    def _validate(self, validation: Validation) -> Mapping[str, Sequence[Row]]:
        """Validate all sets and give their rows."""
        self._share_buffers()
        averaged = {each.phase.trains: each.average.module for each in self._trained if each.average is not None}
        found = validation.run({**self._modules, **averaged}, self._progress.step - 1)
        metrics: dict[str, float] = {}
        for name, each in found.items():
            if not each.metrics:
                continue
            self._tell(name, each.metrics)
            metrics |= named(name, each.metrics)
            for listener in self._listeners:
                listener.show(self._progress, name, each.shown)
        for listener in self._listeners:
            listener.validated(self._progress, metrics)
        self._look_at(metrics)
        return {name: each.rows for name, each in found.items() if each.rows}

    def _look_at(self, metrics: Mapping[str, float]) -> None:
        """Let schedules and the search for the best look at a validation."""
        settings, progress = self._settings, self._progress
        schedules = dict(progress.schedules)
        for each in self._trained:
            optimizer = each.phase.optimizer
            if optimizer.decay == "newbob":
                value = _metric(metrics, optimizer.newbob_by, "newbob_by")
                schedules[each.phase.name] = remember(optimizer, schedules.get(each.phase.name), value)
        progress = replace(progress, schedules=schedules)
        if settings.best_by is not None:
            value = _metric(metrics, settings.best_by, "best_by")
            sign = 1 if settings.best_order == "min" else -1
            if value == value and (progress.best is None or sign * value < sign * progress.best.value):
                progress = replace(progress, best=Best(step=progress.step, value=value), waited=0)
            else:
                progress = replace(progress, waited=progress.waited + 1)
            if settings.patience and progress.waited >= settings.patience:
                progress = replace(progress, ended="patience")
        self._progress = progress

    def _is_best(self) -> bool:
        best = self._progress.best
        return best is not None and best.step == self._progress.step

    def _out_of_time(self) -> bool:
        """End the run where its time is up; say whether a checkpoint is wanted now."""
        leaves = not self._left and self._leaving is not None and self._leaving()
        self._left = self._left or leaves
        if self._settings.max_hours is not None:
            over = self._world.agree(self._progress.seconds >= 3600 * self._settings.max_hours)
            if over:
                self._progress = replace(self._progress, ended="time")
            return bool(over or leaves)
        return leaves

    def _share_buffers(self) -> None:
        self._world.share_buffers(each.module for each in self._trained)
        for each in self._trained:
            each.follow_buffers()

    def _save(self, rows: Mapping[str, Sequence[Row]]) -> None:
        self._share_buffers()
        if self._world.rank > 0:
            return
        if self._store.exists(SUCCESS):
            raise DatasetError(f"another run has finished {self._store.uri}; there is nothing left to train")
        step, settings, best = self._progress.step, self._settings, self._progress.best
        states = {
            name: tensors
            for each in self._trained
            for name, tensors in each.states(begun=step > each.phase.begins).items()
        }
        save_checkpoint(self._store, self._progress, states, rows)
        keep(self._store, latest=settings.keep_checkpoints, best=None if best is None else best.step, upto=step)
        for listener in self._listeners:
            listener.checkpointed(self._progress)


def is_over(progress: Progress, settings: TrainingSettings) -> bool:
    """Say whether a run has ended, with the settings that it has now: more steps or hours let it go on."""
    if progress.ended == "time":
        return settings.max_hours is not None and progress.seconds >= 3600 * settings.max_hours
    return progress.step >= settings.num_steps or progress.ended == "patience"


def _metric(metrics: Mapping[str, float], name: str, setting: str) -> float:
    if name not in metrics:
        raise TrainingError(f"{setting} {name} is no metric of the validation; it has {', '.join(sorted(metrics))}")
    return metrics[name]
