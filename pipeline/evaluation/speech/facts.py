"""What judges found, as JSON: a figure per condition and measure, and what each condition has more than the first."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.metrics.speech.judge import Judge
from pipeline.metrics.speech.judging import libraries
from pipeline.metrics.speech.rows import Row
from pipeline.metrics.speech.summary import Figure, paired, summarize


def figures(
    rows: Sequence[Row], judges: Sequence[Judge], compared: Sequence[str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Give ``metrics.json``.

    Args:
        rows: Of all conditions.
        judges: Who gave them.
        compared: Conditions that are compared, each with the first.
        about: What was evaluated.
    """
    measures = [measure for judge in judges for measure in judge.measures]
    first, *rest = compared
    return {
        **about,
        "libraries": libraries(judges),
        "measures": [
            {"name": measure.name, "unit": measure.unit, "higher_is_better": measure.higher_is_better}
            for measure in measures
        ],
        "conditions": [
            {"condition": condition, "figures": {name: _plain(figure) for name, figure in found.items()}}
            for condition, found in summarize(rows, judges).items()
        ],
        "compared_with": first,
        "differences": [
            {
                "condition": name,
                "figures": {measure.name: _plain(paired(rows, measure, name, first)) for measure in measures},
            }
            for name in rest
        ],
    }


def _plain(figure: Figure) -> dict[str, Any]:
    interval = None if figure.interval is None else asdict(figure.interval)
    return {"interval": interval, "utterances": figure.utterances, "unjudged": dict(figure.unjudged)}


def layer_use(weights: Sequence[np.ndarray], columns: Sequence[str]) -> dict[str, float]:
    """Give the mean weight of each layer over all frames.

    Args:
        weights: float32 (T, L) of each utterance.
        columns: Names of the layers (L).
    """
    if not weights:
        return {}
    means = np.concatenate(weights).mean(axis=0, dtype=np.float64)
    return dict(zip(columns, map(float, means), strict=True))
