"""What a running job tells of itself to Prometheus: every metric by name, and the protocol of who takes the values.

A runner gives the meter. That of Ray (``ray_metrics.py``) hands values to Ray's metrics agents, which Prometheus
scrapes under the names below with ``ray_`` before them; that of this process is silent.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

PREFIX = "ray_"
"""What Ray writes before every name."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name, without what Ray writes before it.
        kind: ``counter`` for what only grows in a run, ``gauge`` for a state.
        unit: What it counts; ``ratio`` is a number without a unit.
        meaning: What it says, in a few words; Prometheus shows them.
        tags: What it is told apart by, beside ``TAGS``.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    meaning: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"{PREFIX}{self.name}"


TAGS = ("stage", "output")
"""Tags of every metric: what is made, and the URI of its folder without secrets."""


def _gauge(name: str, unit: str, meaning: str, *tags: str) -> Metric:
    return Metric(name=f"strata_{name}", kind="gauge", unit=unit, meaning=meaning, tags=tags)


def _counter(name: str, unit: str, meaning: str, *tags: str) -> Metric:
    return Metric(name=f"strata_{name}_total", kind="counter", unit=unit, meaning=meaning, tags=tags)


UNITS_DONE = _gauge("units_done", "units", "Units with a commit, those of earlier runs too")
UNITS_PENDING = _gauge("units_pending", "units", "Units without a commit")
AUDIO_DONE = _gauge("audio_done_seconds", "seconds", "Audio in committed rows, those of earlier runs too")
AUDIO_PLANNED = _gauge("audio_planned_seconds", "seconds", "Audio that the input has, where that is known")
REJECTS_RATIO = _gauge("rejects_ratio", "ratio", "Rejects per row or reject, those of earlier runs too")
STARTED = _gauge("started_timestamp_seconds", "seconds", "When this run of the stage began, since the epoch")
LAST_COMMIT = _gauge(
    "last_commit_timestamp_seconds",
    "seconds",
    "When a unit was last committed, or a K-means iteration kept; before the first, when the run began",
)
STALLED = _gauge("stalled", "0 or 1", "Whether the job has said that it is stalled")
REAL_TIME = _gauge("real_time_ratio", "ratio", "Seconds of audio done by this run per second of wall time")
DEVICE_RATIO = _gauge("device_ratio", "ratio", "Share of the encoders' time in which their device computed")
WAITING_RATIO = _gauge("waiting_ratio", "ratio", "Share of the encoders' time by what it went to instead", "cause")
AGREEMENT_RATIO = _gauge(
    "agreement_ratio", "ratio", "Share of this run's checked tokens that equal batch-1 float32", "layer"
)
UNITS = _counter("units", "units", "Units committed by this run")
AUDIO = _counter("audio_seconds", "seconds", "Audio in rows committed by this run")
ROWS = _counter("rows", "rows", "Rows committed by this run")
REJECTS = _counter("rejects", "rows", "Rejects committed by this run, by reason", "reason")

KMEANS_ITERATION = _gauge("kmeans_iteration", "iterations", "Iteration of a fit", "layer", "codebook")
KMEANS_INERTIA = _gauge("kmeans_inertia", "squared distance", "Inertia before its last move", "layer", "codebook")
KMEANS_IMPROVEMENT = _gauge(
    "kmeans_improvement_ratio", "ratio", "Share of the inertia that the last iteration took away", "layer", "codebook"
)
KMEANS_FRAMES = _counter("kmeans_frames", "frames", "Frames that iterations went over, summed over the fits")

TRAINING_STEP = _gauge("training_step", "steps", "Steps done, by the last line of the log")
TRAINING_STEPS_PLANNED = _gauge("training_steps_planned", "steps", "Steps that the run is to have")
TRAINING_LOSS = _gauge("training_loss", "loss", "Losses of the last line of the log, by their name there", "loss")
TRAINING_LAST_CHECKPOINT = _gauge(
    "training_last_checkpoint_timestamp_seconds",
    "seconds",
    "When a checkpoint was last written; before the first, when the workers began",
)
TRAINING_CHECKPOINTS = _counter("training_checkpoints", "checkpoints", "Checkpoints written by this run")

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them."""


class Meter(Protocol):
    """Takes values of metrics. No call raises, and none waits for anybody."""

    def set(self, metric: Metric, value: float, **tags: str) -> None:
        """Say what a gauge is now, until it is said anew or the meter is closed."""

    def add(self, metric: Metric, value: float, **tags: str) -> None:
        """Let a counter grow; by nothing where the value is not above 0."""

    def close(self) -> None:
        """Let go of the gauges: what they tell of is over."""


class Silent:
    """The meter of a job that nobody scrapes."""

    def set(self, metric: Metric, value: float, **tags: str) -> None:
        """Do nothing."""

    def add(self, metric: Metric, value: float, **tags: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


SILENT = Silent()
