"""How trials went, as their folders tell."""

import json
from dataclasses import dataclass

from pipeline.status import TRIAL_DONE
from pipeline.store.storage import Store

FAILED = "_failed.json"
"""How the last run of a trial went that failed."""
STARTS = "_starts.json"
"""How often the trial was begun."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a trial went.

    Attributes:
        key: Of the trial.
        name: For people.
        seconds: From its last start to its end.
        overhead_seconds: From its last start to the first step of training after it; 0 where it was trained before.
        starts: How often it was begun.
        failed: What it raised; None where it is done.
    """

    key: str
    name: str
    seconds: float
    overhead_seconds: float
    starts: int
    failed: str | None = None


def read_ran(store: Store) -> Ran | None:
    """Read how a finished trial went; None where it is not done.

    Args:
        store: Of the trial's folder.
    """
    if not store.exists(TRIAL_DONE):
        return None
    return Ran(**json.loads(store.read(TRIAL_DONE)))


def read_failed(store: Store) -> Ran | None:
    """Read how a trial failed; None where it did not, or is done since.

    Args:
        store: Of the trial's folder.
    """
    if store.exists(TRIAL_DONE) or not store.exists(FAILED):
        return None
    return Ran(**json.loads(store.read(FAILED)))


def starts_of(store: Store) -> int:
    """Say how often a trial was begun."""
    return int(json.loads(store.read(STARTS))) if store.exists(STARTS) else 0
