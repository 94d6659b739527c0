"""One loop for every training job: forward, backward, clip, AdamW; validation, logging and checkpoints. Knows no Ray.

A step's losses are sums over all workers divided by counts over all workers, and dropout is keyed by micro-batch, so
1 and 2 workers compute the same steps up to the order of float32 sums, and a resumed run the steps of one that never
stopped. Memory of a worker: weights, gradients and AdamW's moments (16 bytes a parameter), one micro-batch's
activations, and the micro-batches that ``Feed`` holds.
"""

import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pipeline import faults
from pipeline.errors import TrainingError
from pipeline.seeds import torch_seed
from pipeline.store.storage import Store
from pipeline.training.checkpoint import Progress, keep_latest, latest, read_checkpoint, save_checkpoint
from pipeline.training.loading import Feed, StepInput
from pipeline.training.optimizer import learning_rate, make_optimizer, moments, restore_moments
from pipeline.training.recipe import Recipe, Source, Tensors
from pipeline.training.settings import TrainingSettings
from pipeline.training.telling import Telling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class World:
    """A worker's place among all.

    Attributes:
        rank: Its number, from 0.
        size: Workers.
        device: Where it computes.
    """

    rank: int
    size: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, value: Any) -> Any:
        """Give all workers what the first one has."""
        if self.size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found, device=self.device)
        return found[0]


class Loop:
    """A training run, as one worker sees it."""

    def __init__(self, recipe: Recipe, settings: TrainingSettings, store: Store, world: World) -> None:
        """Build the model and go to the latest checkpoint.

        Args:
            recipe: Model, data and losses.
            settings: How to train.
            store: The run's folder; all workers see it.
            world: This worker's place.
        """
        self._recipe, self._settings, self._store, self._world = recipe, settings, store, world
        torch.manual_seed(torch_seed(settings.seed, "weights"))
        self._model = recipe.build().to(world.device)
        self._optimizer = make_optimizer(self._model, settings)
        self._progress = Progress()
        self._resume()
        self._parallel: torch.nn.Module = self._model
        if world.size > 1:
            self._parallel = DistributedDataParallel(
                self._model,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                find_unused_parameters=recipe.skips_weights,
            )
        self._names = sorted(recipe.loss_weights)
        self._watched = sorted({*self._names, *(sum_name for sum_name, _ in recipe.ratios.values())})

    def _resume(self) -> None:
        step = self._world.agree(latest(self._store) if self._world.rank == 0 else None)
        if step is None:
            return
        found = read_checkpoint(self._store, step)
        self._model.load_state_dict(found.model)
        restore_moments(self._model, self._optimizer, found.optimizer, step)
        self._progress = found.progress
        if self._world.rank == 0:
            logger.info("training goes on after step %d", step)

    def run(self) -> Progress:
        """Train to the last step.

        Returns:
            Where the run ended, with its history.

        Raises:
            TrainingError: A loss is not finite.
            PipelineError: What reading the data raised.
        """
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
        )
        telling = self._telling() if world.rank == 0 else None
        try:
            self._train(feed, source, telling)
        finally:
            feed.close()
            source.close()
            if telling is not None:
                telling.close()
        return self._progress

    def _telling(self) -> Telling:
        return Telling(
            self._store,
            num_steps=self._settings.num_steps,
            first_step=self._progress.step,
            audio_seconds=self._progress.audio_seconds,
            workers=self._world.size,
        )

    def _train(self, feed: Feed, source: Source[Any], telling: Telling | None) -> None:
        settings = self._settings
        window = torch.zeros(self._window_size, dtype=torch.float64, device=self._world.device)
        validation: list[Tensors] | None = None
        for given in feed:
            window += self._step(given)
            step = given.step + 1
            self._progress = replace(self._progress, step=step, cursor=given.cursor)
            last = step == settings.num_steps
            saves = step % settings.checkpoint_every == 0 or last
            # Before each checkpoint too: it holds no half-full window, and no weights of a loss that was not finite.
            if step % settings.log_every == 0 or saves:
                self._log(window, telling)
                window.zero_()
            if settings.validate_every and (step % settings.validate_every == 0 or last):
                if validation is None:
                    validation = self._validation(source)
                self._validate(validation, telling)
            if saves:
                self._save(telling)
            faults.point("after_step", f"rank {self._world.rank} step {step}")

    @property
    def _window_size(self) -> int:
        # Sums by name, counts by loss, seconds of audio, and the gradients' norm with the steps it was added over.
        return len(self._watched) + len(self._names) + 3

    def _step(self, given: StepInput) -> torch.Tensor:
        """Compute one step and give its sums, counts and seconds, of this worker's micro-batches."""
        world, settings = self._world, self._settings
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(settings, given.step)
        batches = [_moved(batch, world.device) for batch in given.batches]
        totals = world.sum(torch.stack([self._counts(batch) for batch in batches]).sum(dim=0))
        found = torch.zeros(self._window_size, dtype=torch.float64, device=world.device)
        for place, (key, batch) in enumerate(zip(given.keys, batches, strict=True)):
            torch.manual_seed(torch_seed(settings.seed, "dropout", given.step, key))
            last = place == len(batches) - 1
            wait = contextlib.nullcontext() if last or world.size == 1 else self._parallel.no_sync()  # type: ignore[operator]
            with wait:
                sums = self._forward(self._parallel, batch)
                parts = [
                    self._recipe.loss_weights[name] * sums[name] / total.clamp(min=1).float()
                    for name, total in zip(self._names, totals, strict=True)
                ]
                # Gradients are averaged over workers, and are to be added.
                torch.autograd.backward([torch.stack(parts).sum() * world.size])
            found += self._figures(sums, batch)
        for parameter in self._model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                # Skipped in the whole step; AdamW would not count this step for it, and a checkpoint has one count.
                parameter.grad = torch.zeros_like(parameter)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if world.rank == 0:
            found[-2:] += torch.stack([norm.double(), torch.ones_like(norm, dtype=torch.float64)])
        return found

    def _forward(self, model: torch.nn.Module, batch: Tensors) -> Tensors:
        autocast = torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16")
        with autocast:
            found: Tensors = model(**{name: value for name, value in batch.items() if not _told(name)})
        return found

    def _counts(self, batch: Tensors) -> torch.Tensor:
        return torch.stack([batch[f"count_{name}"].double() for name in self._names])

    def _figures(self, sums: Tensors, batch: Tensors) -> torch.Tensor:
        watched = torch.stack([sums[name].detach().double() for name in self._watched])
        rest = torch.zeros(2, dtype=torch.float64, device=watched.device)
        return torch.cat([watched, self._counts(batch), batch["seconds"].double()[None], rest])

    def _ratios(self, window: torch.Tensor) -> dict[str, float]:
        """Turn sums over all workers into means by name."""
        sums = dict(zip(self._watched, window.tolist(), strict=False))
        counts = dict(zip(self._names, window[len(self._watched) :].tolist(), strict=False))
        wanted = {f"{name}_loss": (name, name) for name in self._names} | dict(self._recipe.ratios)
        found = {
            label: sums[sum_name] / counts[count_name]
            for label, (sum_name, count_name) in wanted.items()
            if counts[count_name]
        }
        weights = self._recipe.loss_weights
        return {"loss": sum(weights[name] * found.get(f"{name}_loss", 0.0) for name in self._names), **found}

    def _log(self, window: torch.Tensor, telling: Telling | None) -> None:
        totals = self._world.sum(window.clone())
        seconds, norms, steps = totals[-3:].tolist()
        self._progress = replace(self._progress, audio_seconds=self._progress.audio_seconds + seconds)
        metrics, step = self._ratios(totals), self._progress.step
        when = f"at step {step}" if steps == 1 else f"in steps {step - int(steps) + 1} to {step}"
        if not math.isfinite(metrics["loss"]) or not math.isfinite(norms):
            raise TrainingError(
                f"the loss is not finite {when} ({metrics}, gradient norm {norms / steps:g}); "
                "lower --lr, lengthen --warmup-steps, or use --dtype float32"
            )
        metrics |= {"gradient_norm": norms / steps, "lr": learning_rate(self._settings, self._progress.step - 1)}
        if telling is not None:
            telling.log(self._progress, metrics)

    def _validation(self, source: Source[Any]) -> list[Tensors]:
        """Load this worker's share of the validation data, once: it stays in memory."""
        tickets = source.validation()[self._world.rank :: self._world.size]
        return [source.load(ticket, -1) for ticket in tickets]

    @torch.no_grad()
    def _validate(self, batches: Sequence[Tensors], telling: Telling | None) -> None:
        self._model.eval()
        window = torch.zeros(self._window_size, dtype=torch.float64, device=self._world.device)
        for batch in batches:
            moved = _moved(batch, self._world.device)
            window += self._figures(self._forward(self._model, moved), moved)
        metrics = self._ratios(self._world.sum(window))
        if telling is not None and len(metrics) > 1:
            telling.log(self._progress, {f"validation_{name}": value for name, value in metrics.items()})

    def _save(self, telling: Telling | None) -> None:
        if telling is None:
            return
        state = moments(self._model, self._optimizer)
        save_checkpoint(self._store, self._progress, self._model.state_dict(), state)
        keep_latest(self._store, self._settings.keep_checkpoints, upto=self._progress.step)
        telling.checkpointed(self._progress)


def _told(name: str) -> bool:
    """Say whether a tensor of a micro-batch is for the loop and not for the model."""
    return name == "seconds" or name.startswith("count_")


def _moved(batch: Tensors, device: torch.device) -> Tensors:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
