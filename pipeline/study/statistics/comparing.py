"""How sure a study is: levels over seeds, paired differences to the centre, and shares of variance.

A difference is of the same seeds and the same utterances. Its interval is a bootstrap in two stages: seeds are drawn
with replacement, and utterances with replacement, the same for both levels. A level is called better or worse only
where the interval of 95 % does not hold 0, and two seeds at least were compared: the interval of one knows nothing of
what seeds do. With three seeds it is still too narrow for that.

Sources: Efron and Tibshirani 1993, An Introduction to the Bootstrap; Bisani and Ney 2004, Bootstrap estimates for
confidence intervals in ASR performance evaluation; for the shares, Hays 1963, Statistics (omega squared).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.uncertainty import Interval, over_seeds
from pipeline.seeds import rng
from pipeline.study.facts import SEEDS, Better, Level, Share
from pipeline.study.metrics import METRICS, Part

DRAWS = 1000
LEAST_SEEDS = 2
"""That a comparison must have before it says anything."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The trials of a level, by seed.

    Attributes:
        trials: Keys of the trials.
        parts: What utterances give to the metric, by utterance id.
        bits_per_second: Of the tokens.
    """

    trials: Mapping[int, str]
    parts: Mapping[int, Mapping[str, Part]]
    bits_per_second: float

    def figures(self) -> list[float]:
        """Give the figure of each seed, on all of its utterances."""
        return [value_of(parts) for _, parts in sorted(self.parts.items())]


def value_of(parts: Mapping[str, Part]) -> float:
    """Give the figure over utterances: the mean over groups of their ratios of sums."""
    rows = _Rows(list(parts), [parts])
    return float(rows.figures(0, np.ones((1, len(parts)), np.int64))[0])


def level_of(task: str, metric: str, factor: str, level: str, mine: Runs, centre: Runs | None) -> Level:
    """Say what a level gives and what it differs from the centre by.

    Args:
        task: Name of the task.
        metric: Its metric.
        factor: Name of the factor.
        level: Name of the level.
        mine: Its trials.
        centre: Those of the centre; None for the centre itself.
    """
    found = None if centre is None else paired(mine, centre)
    return Level(
        task=task,
        factor=factor,
        level=level,
        metric=metric,
        figure=over_seeds(mine.figures()),
        difference=found,
        better=_better(found, METRICS[metric].lower_is_better) if found is not None and says(mine, centre) else None,
        bits_per_second=mine.bits_per_second,
        trials=tuple(key for _, key in sorted(mine.trials.items())),
    )


def _better(found: Interval, lower_is_better: bool) -> Better | None:
    if found.low <= 0 <= found.high:
        return None
    return "level" if (found.value < 0) == lower_is_better else "centre"


def says(first: Runs, second: Runs | None) -> bool:
    """Say whether two levels have seeds enough in common for a difference to be called one."""
    return second is not None and len(set(first.parts) & set(second.parts)) >= LEAST_SEEDS


def paired(first: Runs, second: Runs, *, draws: int = DRAWS, level: float = 0.95) -> Interval | None:
    """Give what the first has more than the second, of the seeds and utterances that both have; None without any.

    Args:
        first: Trials of a level.
        second: Trials of another.
        draws: Bootstrap draws.
        level: Share of the draws inside the interval.
    """
    seeds = sorted(set(first.parts) & set(second.parts))
    both = [sorted(set(first.parts[seed]) & set(second.parts[seed])) for seed in seeds]
    ids = sorted({each for known in both for each in known})
    if not ids:
        return None
    chance = rng(0, "study bootstrap")
    drawn = chance.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=draws)
    drawn_seeds = chance.integers(len(seeds), size=(draws, len(seeds)))
    differences = np.empty((draws, len(seeds)))
    values = np.empty(len(seeds))
    for place, (seed, known) in enumerate(zip(seeds, both, strict=True)):
        rows = _Rows(ids, [{name: side.parts[seed][name] for name in known} for side in (first, second)])
        differences[:, place] = rows.figures(0, drawn) - rows.figures(1, drawn)
        once = np.ones((1, len(ids)), np.int64)
        values[place] = (rows.figures(0, once) - rows.figures(1, once))[0]
    means = np.take_along_axis(differences, drawn_seeds, axis=1).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(values.mean()), low=float(low), high=float(high))


class _Rows:
    """Numerators and denominators of some trials over the same utterances, as arrays, group by group."""

    def __init__(self, ids: Sequence[str], trials: Sequence[Mapping[str, Part]]) -> None:
        places = {name: place for place, name in enumerate(ids)}
        self._groups = sorted({part.group for parts in trials for part in parts.values()})
        shape = (len(trials), len(self._groups), len(ids))
        self._above, self._below = np.zeros(shape), np.zeros(shape)
        for trial, parts in enumerate(trials):
            for name, part in parts.items():
                where = trial, self._groups.index(part.group), places[name]
                self._above[where], self._below[where] = part.numerator, part.denominator

    def figures(self, trial: int, drawn: np.ndarray) -> np.ndarray:
        """Give the figure of each draw, float64 (D,).

        Args:
            trial: Which.
            drawn: How often each utterance was drawn, int64 (D, N).
        """
        above, below = drawn @ self._above[trial].T, drawn @ self._below[trial].T
        there = below > 0
        ratios = np.divide(above, below, out=np.zeros_like(above), where=there)
        return np.asarray(ratios.sum(axis=1) / np.maximum(1, there.sum(axis=1)))


def shares(task: str, factors: Mapping[str, Mapping[str, Runs]]) -> list[Share]:
    """Say how much of the variance of a task's trials each factor explains.

    The variance of a factor is that of its levels' means, less what seeds alone would give them, and not below 0; the
    rest is the mean variance within levels. Levels of one factor differ from the centre alone, so interactions are
    not seen.

    Args:
        task: Name of the task.
        factors: Trials of each level, the centre among them, by factor and level.
    """
    within: list[float] = []
    found: dict[str, float] = {}
    for name, levels in factors.items():
        values = [np.array(runs.figures()) for runs in levels.values()]
        if len(values) < 2 or any(len(each) < 2 for each in values):
            continue
        noise = [float(each.var(ddof=1)) for each in values]
        within += noise
        expected = float(np.mean([each / len(runs) for each, runs in zip(noise, values, strict=True)]))
        count = len(values)
        between = float(np.var([each.mean() for each in values], ddof=1)) - expected
        found[name] = max(0.0, between * (count - 1) / count)
    if not found:
        return []
    total = sum(found.values()) + float(np.mean(within))
    told = {**found, SEEDS: float(np.mean(within))}
    return [Share(task=task, factor=name, share=value / total if total else 0.0) for name, value in told.items()]
