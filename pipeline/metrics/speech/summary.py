"""Figures of each condition from the rows of its utterances: a mean or a rate, its interval, and what is missing.

A mean is over the utterances that have a value, and says how many have none and why. Conditions that lack different
utterances do not compare by their means; ``paired`` takes the utterances that both have.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import Judge, Measure
from pipeline.metrics.speech.rows import ERRORS, LENGTH
from pipeline.metrics.uncertainty import Interval, Statistic, bootstrap_interval, difference, rate

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measure over the utterances of a condition.

    Attributes:
        interval: Mean, or rate of a counted measure, and its bootstrap interval; None where no utterance has a value.
        utterances: That have a value.
        unjudged: That have none, by reason.
    """

    interval: Interval | None
    utterances: int
    unjudged: Mapping[str, int]


def summarize(rows: Rows, judges: Sequence[Judge], *, draws: int = 1000) -> dict[str, dict[str, Figure]]:
    """Give the figure of each condition and measure, conditions in the order of their first rows.

    Args:
        rows: Of ``judge_pairs``, all of them.
        judges: Who gave them.
        draws: Of the bootstrap over utterances.
    """
    measures = [measure for judge in judges for measure in judge.measures]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    found = {}
    for condition in conditions:
        mine = [row for row in rows if row["condition"] == condition]
        found[condition] = {measure.name: _figure(mine, measure, draws) for measure in measures}
    return found


def paired(rows: Rows, measure: Measure, first: str, second: str, *, draws: int = 1000) -> Figure:
    """Give what the first condition has more than the second, over the utterances that both have.

    Args:
        rows: Of ``judge_pairs``.
        measure: That is compared.
        first: Condition.
        second: Condition.
        draws: Of the bootstrap over utterances.

    Raises:
        SettingsError: A condition has no rows, or an utterance twice.
    """
    sides = [_by_utterance(rows, condition) for condition in (first, second)]
    shared = [name for name in sides[0] if name in sides[1]]
    both = [name for name in shared if all(side[name][measure.name] is not None for side in sides)]
    left_out = {"absent": len({*sides[0], *sides[1]}) - len(shared), "unjudged": len(shared) - len(both)}
    unjudged = {reason: count for reason, count in left_out.items() if count}
    if not both:
        return Figure(interval=None, utterances=0, unjudged=unjudged)
    statistics = [_statistic([side[name] for name in both], measure) for side in sides]
    interval = bootstrap_interval(difference(statistics[0], statistics[1]), len(both), draws=draws)
    return Figure(interval=interval, utterances=len(both), unjudged=unjudged)


def _figure(rows: Rows, measure: Measure, draws: int) -> Figure:
    judged = [row for row in rows if row[measure.name] is not None]
    reasons = Counter(why["reason"] for row in rows for why in row["unjudged"] if why["measure"] == measure.name)
    interval = bootstrap_interval(_statistic(judged, measure), len(judged), draws=draws) if judged else None
    return Figure(interval=interval, utterances=len(judged), unjudged=dict(sorted(reasons.items())))


def _statistic(rows: Rows, measure: Measure) -> Statistic:
    if measure.counted:
        errors, lengths = (np.array([row[measure.name + ending] for row in rows]) for ending in (ERRORS, LENGTH))
        return rate(errors, lengths)
    return rate(np.array([row[measure.name] for row in rows]), np.ones(len(rows)))


def _by_utterance(rows: Rows, condition: str) -> dict[str, Mapping[str, Any]]:
    mine = [row for row in rows if row["condition"] == condition]
    found = {row["utterance_id"]: row for row in mine}
    if not mine or len(found) < len(mine):
        what = "has an utterance twice" if mine else "has no rows"
        raise SettingsError(f"the condition {condition} {what}; it cannot be compared")
    return found
