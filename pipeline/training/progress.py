"""How far a training run has come: what a checkpoint says of it, and what ``_progress.json`` shows while it goes on.

Imports no torch, so that ``--status`` and ``--help`` need none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.store.storage import Store

PROGRESS = "_progress.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "_checkpoints"
RAY_FOLDER = "_ray_train"
Json = Any


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What the amount of data in a micro-batch is counted in.

    Attributes:
        name: What one of them is, in the plural.
        shown: What sums are shown in, in the plural.
        size: How many of ``name`` make one of ``shown``.
        rate: What so many per second are called.
    """

    name: str
    shown: str
    size: float
    rate: str

    def text(self, amount: float, per_second: float) -> str:
        """Say an amount, and how many come per second."""
        sum_ = f"{amount / self.size:.2f}" if self.size > 1 else f"{amount:,.0f}"
        return f"{sum_} {self.shown}, {per_second:,.0f} {self.rate}"


AUDIO = Unit(name="seconds of audio", shown="h of audio", size=3600.0, rate="times real time")
TOKENS = Unit(name="tokens", shown="tokens", size=1.0, rate="tokens per second")
UTTERANCES = Unit(name="utterances", shown="utterances", size=1.0, rate="utterances per second")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best validation so far.

    Attributes:
        step: The step it was after.
        value: Its metric.
    """

    step: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: Steps done.
        cursor: Where its data go on.
        amount: Data that it has learned from, over all workers, in the recipe's unit.
        best: The best validation, where ``best_by`` names its metric.
        waited: Validations since the best one.
        schedules: What a schedule remembers, by phase.
        ended: Why the run is over: "steps", "patience" or "time"; None while it is not.
        seconds: Time that training took, all starts together; differs between equal runs, so it is not compared.
        history: What was logged: one dictionary per line, with ``step``.
    """

    step: int = 0
    cursor: Json = None
    amount: float = 0.0
    best: Best | None = None
    waited: int = 0
    schedules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ended: str | None = None
    seconds: float = field(default=0.0, compare=False)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Progress":
        """Read what ``dataclasses.asdict`` gave.

        Raises:
            TypeError: A field is missing or unknown.
        """
        best = state["best"]
        return cls(**{**state, "best": None if best is None else Best(**best)})

    @property
    def published_step(self) -> int:
        """The step whose weights are published: the best, or the last where no metric names a best."""
        return self.step if self.best is None else self.best.step


def history_lines(progress: Progress) -> bytes:
    """Give the content of ``metrics.jsonl``: what was logged, a JSON object per line."""
    return "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in progress.history).encode()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What ``_progress.json`` says."""

    step: int
    num_steps: int
    amount: float
    unit: Unit
    per_second: float
    eta_seconds: float
    workers: int
    metrics: Mapping[str, float]
    time: float

    def line(self) -> str:
        """Say where the run is, in one line."""
        hours, rest = divmod(int(self.eta_seconds), 3600)
        parts = [f"step {self.step:,}/{self.num_steps:,}"]
        parts += [f"{name} {value:.4g}" for name, value in self.metrics.items()]
        parts += [self.unit.text(self.amount, self.per_second)]
        parts += [f"ETA {hours}:{rest // 60:02d}:{rest % 60:02d}", f"{self.workers} worker(s)"]
        return ", ".join(parts)


def read_standing(store: Store) -> Standing | None:
    """Read how far a run has come, None where it has not begun."""
    try:
        found = json.loads(store.read(PROGRESS))
        return Standing(**{**found, "unit": Unit(**found["unit"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
