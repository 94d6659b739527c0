"""Tells a meter where a run is: step, losses, speed and checkpoints, as the log and ``_progress.json`` have them."""

import time
from collections.abc import Mapping, Sequence

from pipeline.redaction import redact_uri
from pipeline.training.listeners import Pace, named
from pipeline.training.progress import AUDIO, Progress
from pipeline.training.recipe import Audio, Figure
from pipeline.work import meters
from pipeline.work.meters import Meter


class MeterListener:
    """Hears a run on its first worker, and hands its numbers to a meter, which it closes.

    Args:
        meter: Takes the values.
        stage: What is trained.
        uri: The run's folder.
        num_steps: Steps that the run is to have.
        progress: Where the run is when this worker begins.
        pace: Gives its speed, as the store's listener has it.
    """

    def __init__(self, meter: Meter, *, stage: str, uri: str, num_steps: int, progress: Progress, pace: Pace) -> None:
        self._meter, self._pace = meter, pace
        self._tags = {"stage": stage, "output": redact_uri(uri)}
        self._set(meters.TRAINING_STEP, progress.step)
        self._set(meters.TRAINING_STEPS_PLANNED, num_steps)
        self._set(meters.TRAINING_LAST_CHECKPOINT, time.time())

    def log(self, progress: Progress, group: str, metrics: Mapping[str, float]) -> None:
        """Tell step, speed and losses."""
        self._set(meters.TRAINING_STEP, progress.step)
        if self._pace.unit == AUDIO:
            self._set(meters.REAL_TIME, self._pace.per_second(progress))
        for name, value in named(group, metrics).items():
            if name.endswith("loss"):
                self._set(meters.TRAINING_LOSS, value, loss=name)

    def show(self, progress: Progress, group: str, shown: Sequence[Audio | Figure]) -> None:
        """Do nothing: a meter has numbers."""

    def validated(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Do nothing: each set was heard of."""

    def checkpointed(self, progress: Progress) -> None:
        """Count a checkpoint."""
        self._meter.add(meters.TRAINING_CHECKPOINTS, 1, **self._tags)
        self._set(meters.TRAINING_LAST_CHECKPOINT, time.time())

    def close(self) -> None:
        """Let go of the gauges."""
        self._meter.close()

    def _set(self, metric: meters.Metric, value: float, **tags: str) -> None:
        self._meter.set(metric, value, **self._tags, **tags)
