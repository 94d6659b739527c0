"""Figures of a side, with intervals, and its layer use, from the rows of its utterances. Knows no torch.

Letters: N utterances, L layers, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.fusion.layer_use import entropy, entropy_share
from pipeline.metrics.classification import accuracy, confusion_matrix, unweighted_average_recall
from pipeline.metrics.uncertainty import Statistic, bootstrap_interval, rate
from pipeline.tasks.kinds import KINDS, label_classes
from pipeline.tasks.se.metrics import rates as token_rates
from pipeline.tasks.tts.metrics import WRONG, early, late

WEIGHT, SPREAD = "weight_", "weight_spread_"
"""What begins the columns of a layer's mean weight, and of its standard deviation over an utterance's frames."""

MOST_SPEAKERS = 20
"""With more speakers, layer use is not told of each."""

Rows = Sequence[Mapping[str, Any]]


def has_classes(task: str) -> bool:
    """Say whether the label of a task is a class, so that its rows have one and what it was taken for."""
    return bool(label_classes(KINDS[task]))


def measures(task: str, rows: Rows) -> dict[str, dict[str, float]]:
    """Give each metric of a side as ``value``, ``low`` and ``high``: a bootstrap interval of 95 % over utterances."""
    counted: dict[str, Callable[[Rows], dict[str, Statistic]]] = {"asr": _rates, "se": _enhanced, "tts": _written}
    statistics = counted.get(task, _shares)(rows)
    return {name: asdict(bootstrap_interval(statistic, len(rows))) for name, statistic in statistics.items()}


def _rates(rows: Rows) -> dict[str, Statistic]:
    found = {}
    for name, unit in (("wer", "words"), ("cer", "characters")):
        kinds = ("substitutions", "deletions", "insertions")
        errors = np.array([sum(row[f"{unit}_{kind}"] for kind in kinds) for row in rows])
        found[name] = rate(errors, np.array([row[f"{unit}_length"] for row in rows]))
    return found


def _enhanced(rows: Rows) -> dict[str, Statistic]:
    return {name: rate(*found) for name, found in token_rates(rows).items()}


def _written(rows: Rows) -> dict[str, Statistic]:
    columns = [name for name in rows[0] if name.startswith(WRONG)]
    frames, one = np.array([row["num_tokens"] for row in rows]), np.ones(len(rows))
    wrong = {column: np.array([row[column] for row in rows]) for column in columns}
    return {
        "token_error_rate": rate(np.sum(list(wrong.values()), axis=0), frames * len(columns)),
        **{f"token_error_{column.removeprefix(WRONG)}": rate(counts, frames) for column, counts in wrong.items()},
        "stop_early": rate(np.array([float(early(row)) for row in rows]), one),
        "stop_late": rate(np.array([float(late(row)) for row in rows]), one),
    }


def _shares(rows: Rows) -> dict[str, Statistic]:
    names = classes(rows)
    targets, predicted = _places(rows, "reference", names), _places(rows, "hypothesis", names)

    def of(figure: Callable[[np.ndarray], float]) -> Statistic:
        return lambda drawn: figure(confusion_matrix(targets[drawn], predicted[drawn], len(names)))

    return {
        "accuracy": of(accuracy),
        "error": of(lambda counted: 1 - accuracy(counted)),
        "uar": of(unweighted_average_recall),
    }


def classes(rows: Rows) -> list[str]:
    """Name the classes that are said or meant, sorted."""
    return sorted({str(row[side]) for row in rows for side in ("reference", "hypothesis")})


def _places(rows: Rows, side: str, names: Sequence[str]) -> np.ndarray:
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[row[side]] for row in rows], np.int64)


def confusion(rows: Rows) -> dict[str, Any]:
    """Count utterances by reference (row) and hypothesis (column): ``classes`` and ``counts``."""
    names = classes(rows)
    counted = confusion_matrix(_places(rows, "reference", names), _places(rows, "hypothesis", names), len(names))
    return {"classes": names, "counts": counted.tolist()}


def side_use(task: str, rows: Rows, columns: Sequence[str]) -> dict[str, Any]:
    """Give the layer use of a side: of all, by class of the label, and by speaker where these are few."""
    found: dict[str, Any] = {"all": summary(rows, columns), "by_label": {}, "by_speaker": {}}
    if has_classes(task):
        found["by_label"] = _by(rows, "reference", columns)
    speakers = {row["speaker"] for row in rows} - {None}
    if len(speakers) <= MOST_SPEAKERS:
        found["by_speaker"] = _by([row for row in rows if row["speaker"] is not None], "speaker", columns)
    return found


def _by(rows: Rows, column: str, columns: Sequence[str]) -> dict[str, Any]:
    values = sorted({str(row[column]) for row in rows})
    return {value: summary([row for row in rows if row[column] == value], columns) for value in values}


def summary(rows: Rows, columns: Sequence[str]) -> dict[str, Any]:
    """Give the layer use of utterances.

    Returns:
        ``mean``: weight of each layer (L), over all real frames; ``spread_over_utterances``: standard deviation of the
        utterances' means; ``spread_over_frames``: root mean square of their spreads over frames; ``entropy`` of
        ``mean`` and ``frame_entropy``, the mean of the frames' own, in nats and as shares of log L.
    """
    frames = np.array([row["num_frames"] for row in rows], np.float64)
    means = np.array([[row[f"{WEIGHT}{name}"] for name in columns] for row in rows])
    spreads = np.array([[row[f"{SPREAD}{name}"] for name in columns] for row in rows])
    mean = (frames[:, None] * means).sum(axis=0) / frames.sum()
    own = float((frames * np.array([row["frame_entropy"] for row in rows])).sum() / frames.sum())
    most = np.log(len(columns)) if len(columns) > 1 else np.inf
    return {
        "utterances": len(rows),
        "frames": int(frames.sum()),
        "mean": mean.tolist(),
        "spread_over_utterances": means.std(axis=0).tolist(),
        "spread_over_frames": np.sqrt((frames[:, None] * spreads**2).sum(axis=0) / frames.sum()).tolist(),
        "entropy": entropy(mean),
        "entropy_share": entropy_share(mean),
        "frame_entropy": own,
        "frame_entropy_share": own / float(most),
    }
