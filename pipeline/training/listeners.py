"""What hears of a run while it goes on: the store, TensorBoard, Ray Tune.

The first worker writes ``_progress.json`` every few seconds; the driver shows it. ``metrics.jsonl`` is written whole at
each checkpoint, from the history that the checkpoint holds, so that both always tell of the same steps.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipeline.store.dataset import SUCCESS
from pipeline.store.storage import Store
from pipeline.training.progress import METRICS, PROGRESS, Progress, Unit, history_lines
from pipeline.training.recipe import Audio, Figure

_SECONDS_BETWEEN = 2.0


class Listener(Protocol):
    """Hears what a run logs."""

    def log(self, progress: Progress, group: str, metrics: Mapping[str, float]) -> None:
        """Hear metrics.

        Args:
            progress: Where the run is.
            group: Validation set that they are of; empty for training.
            metrics: By name, without the group.
        """

    def show(self, progress: Progress, group: str, shown: Sequence[Audio | Figure]) -> None:
        """Hear and see what a recipe shows of a validation set."""

    def validated(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Hear the metrics of all validation sets together, by the names of the history."""

    def checkpointed(self, progress: Progress) -> None:
        """Hear that a checkpoint was written."""

    def close(self) -> None:
        """Let go of files."""


def named(group: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Name metrics as the history does: ``loss``, ``validation_loss``."""
    return {f"{group}_{name}" if group else name: value for name, value in metrics.items()}


class Pace:
    """How fast a run is since its workers began.

    Args:
        progress: Where it was then.
        unit: What its data are counted in.
    """

    def __init__(self, progress: Progress, unit: Unit) -> None:
        self.unit = unit
        self._first, self._began = progress, time.time()

    @property
    def elapsed(self) -> float:
        """Seconds since then."""
        return max(1e-9, time.time() - self._began)

    def steps(self, progress: Progress) -> int:
        """Give the steps done since then."""
        return progress.step - self._first.step

    def per_second(self, progress: Progress) -> float:
        """Give the data learned from per second, in its unit."""
        return (progress.amount - self._first.amount) / self.elapsed


class StoreListener:
    """Writes where the run is, and its history, into the run's folder."""

    def __init__(self, store: Store, *, num_steps: int, workers: int, pace: Pace) -> None:
        self._store = store
        self._num_steps, self._workers, self._pace = num_steps, workers, pace
        self._told = 0.0

    def log(self, progress: Progress, group: str, metrics: Mapping[str, float]) -> None:
        """Show where the run is."""
        if time.time() - self._told >= _SECONDS_BETWEEN or progress.step == self._num_steps:
            self._told = time.time()
            self._store.write(PROGRESS, json.dumps(self._standing(progress, named(group, metrics))).encode())

    def _standing(self, progress: Progress, metrics: Mapping[str, float]) -> dict[str, Any]:
        pace = self._pace
        return {
            "step": progress.step,
            "num_steps": self._num_steps,
            "amount": progress.amount,
            "unit": {name: getattr(pace.unit, name) for name in ("name", "shown", "size", "rate")},
            "per_second": pace.per_second(progress),
            "eta_seconds": (self._num_steps - progress.step) * pace.elapsed / max(1, pace.steps(progress)),
            "workers": self._workers,
            "metrics": dict(metrics),
            "time": time.time(),
        }

    def show(self, progress: Progress, group: str, shown: Sequence[Audio | Figure]) -> None:
        """Do nothing: sounds and figures are for TensorBoard."""

    def validated(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Do nothing: each set was heard of."""

    def checkpointed(self, progress: Progress) -> None:
        """Write the history beside a checkpoint, unless another run has finished the model and sealed its history."""
        if not self._store.exists(SUCCESS):
            self._store.write(METRICS, history_lines(progress))

    def close(self) -> None:
        """Do nothing: files are written whole."""


class ReportListener:
    """Reports metrics to Ray: a trial of Ray Tune then sees them. Every worker has one, for a report waits for all.

    Tune wants its metric in every report, so a run that validates reports at its validations: what they gave, with the
    last line of training.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None], *, validates: bool) -> None:
        self._report, self._validates = report, validates
        self._training: Mapping[str, float] = {}

    def log(self, progress: Progress, group: str, metrics: Mapping[str, float]) -> None:
        """Remember a line of training; report it where nothing is validated."""
        if not group:
            self._training = metrics
            if not self._validates:
                self._report({"step": progress.step, **metrics})

    def show(self, progress: Progress, group: str, shown: Sequence[Audio | Figure]) -> None:
        """Do nothing: Ray Tune has numbers."""

    def validated(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Report a validation."""
        self._report({"step": progress.step, **self._training, **metrics})

    def checkpointed(self, progress: Progress) -> None:
        """Do nothing: checkpoints are in the run's own folder."""

    def close(self) -> None:
        """Do nothing."""
