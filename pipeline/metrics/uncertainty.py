"""How sure a figure is: bootstrap intervals over utterances, and the standard error over seeds.

A *statistic* is a function of utterances drawn: it takes their indices, int64 (N,), with repeats. For two systems it
gives the difference of their figures on the same utterances, which makes the bootstrap a paired one.

Source: Bisani and Ney 2004, Bootstrap estimates for confidence intervals in ASR performance evaluation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.seeds import rng

Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the interval that holds the given share of its bootstrap draws.

    Attributes:
        value: On all utterances, each once.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """Runs that differ in their seed alone.

    Attributes:
        mean: Of the runs.
        standard_error: Of the mean; None for a single run, which says nothing about noise.
        runs: How many.
    """

    mean: float
    standard_error: float | None
    runs: int


def bootstrap_interval(
    statistic: Statistic, num_utterances: int, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Give a percentile interval by drawing utterances with replacement.

    Args:
        statistic: Figure of drawn utterances; a difference of two systems for a paired interval.
        num_utterances: N, at least 1.
        draws: Times that N utterances are drawn.
        level: Share of the draws inside.
        seed: Of the draws.

    Raises:
        ValueError: A value is out of range.
    """
    if num_utterances < 1 or draws < 1 or not 0 < level < 1:
        raise ValueError(f"need utterances, draws and a level in (0, 1), got {num_utterances}, {draws}, {level}")
    chance = rng(seed, "bootstrap")
    drawn = [statistic(chance.integers(num_utterances, size=num_utterances)) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(statistic(np.arange(num_utterances))), low=float(low), high=float(high))


def rate(errors: np.ndarray, totals: np.ndarray) -> Statistic:
    """Make the statistic of a rate over a set, as a word error rate is.

    Args:
        errors: Of each utterance (N,).
        totals: What they are divided by (N,); a draw whose totals are all 0 is divided by 1.
    """
    return lambda drawn: float(errors[drawn].sum() / max(1, totals[drawn].sum()))


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Make the statistic of a paired comparison: what the first system has more than the second."""
    return lambda drawn: first(drawn) - second(drawn)


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Give mean and standard error of the mean.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("no runs to take a mean of")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return OverSeeds(mean=mean, standard_error=None, runs=1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return OverSeeds(mean=mean, standard_error=math.sqrt(variance / count), runs=count)
