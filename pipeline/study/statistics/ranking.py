"""Levels put in order: those of a factor, the best of them, and those of the Pareto front of bitrate and quality."""

from collections.abc import Mapping, Sequence

from pipeline.study.facts import Level
from pipeline.study.metrics import METRICS
from pipeline.study.statistics.wording import CANNOT_TELL

_OUTCOMES = {"level": "better", "centre": "worse", None: CANNOT_TELL}


def by_factor(levels: Sequence[Level], task: str) -> Mapping[str, Sequence[Level]]:
    """Give the levels of each factor on a task; the centre, where it is a level of no factor, is put into each.

    Args:
        levels: Of all tasks.
        task: Which.
    """
    found: dict[str, list[Level]] = {}
    for level in levels:
        if level.task == task:
            found.setdefault(level.factor, []).append(level)
    centres = found.pop("", [])
    if not found:
        return {"": centres} if centres else {}
    return {factor: those if centre_of(those) else [*centres, *those] for factor, those in found.items()}


def centre_of(levels: Sequence[Level]) -> Level | None:
    """Give the centre of a factor's levels: the only one that is compared with nothing; None where there is none."""
    alone = [level for level in levels if level.difference is None]
    return alone[0] if len(alone) == 1 else None


def outcome(level: Level, centre: Level | None) -> str:
    """Say how a level compares with the centre."""
    if level.difference is None:
        return "centre" if level is centre else "not compared"
    return _OUTCOMES[level.better]


def best_of(levels: Sequence[Level]) -> Level:
    """Give the level with the best mean; the first of equals."""
    return min(levels, key=_loss)


def distinct(levels: Sequence[Level], task: str) -> Sequence[Level]:
    """Give the levels of a task with the centre once, though every factor has it; the centre is the first."""
    factors = by_factor(levels, task)
    centre = next((found for those in factors.values() if (found := centre_of(those))), None)
    others = [level for those in factors.values() for level in those if level is not centre_of(those)]
    return others if centre is None else [centre, *others]


def front(levels: Sequence[Level]) -> Sequence[Level]:
    """Give those of a task that no other beats, from the lowest bitrate on: the Pareto front.

    One level beats another that has no fewer bits per second and no better mean, and is behind in one of the two. It
    goes by means alone, so levels beside each other on the front may not be told apart.
    """
    found = [level for level in levels if not any(_beats(other, level) for other in levels)]
    return sorted(found, key=lambda level: (level.bits_per_second, _loss(level)))


def _beats(first: Level, second: Level) -> bool:
    ours, theirs = (first.bits_per_second, _loss(first)), (second.bits_per_second, _loss(second))
    return ours[0] <= theirs[0] and ours[1] <= theirs[1] and ours != theirs


def _loss(level: Level) -> float:
    return level.figure.mean if METRICS[level.metric].lower_is_better else -level.figure.mean
