"""What trials found: rows of results, what each utterance gives to them, and layer use, read from their evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log2
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.evaluation.comparison import LAYER_USE, METRICS, UNIT, read_fact
from pipeline.metrics.uncertainty import bootstrap_interval, rate
from pipeline.schema import layer_column
from pipeline.store.dataset import Dataset
from pipeline.store.reading import open_committed
from pipeline.store.storage import join
from pipeline.study.facts import Result
from pipeline.study.metrics import METRICS as KNOWN
from pipeline.study.metrics import Part, part
from pipeline.study.planning.trials import TEST, Trial
from pipeline.study.ran import Ran
from pipeline.study.speech import Speech, expected, was_heard
from pipeline.study.table import VOCODER

SIDE = "test"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a finished trial found.

    Attributes:
        results: A row per metric and condition.
        parts: What utterances give to the metric by which its task is judged, by condition and utterance id.
    """

    results: tuple[Result, ...]
    parts: Mapping[str, Mapping[str, Part]]


def collect(trials: Sequence[tuple[Trial, Ran]], output: str) -> dict[str, Found]:
    """Read what finished trials found, by their keys.

    Args:
        trials: Finished ones, and how each went.
        output: The study's folder.
    """
    return {trial.key: _found(trial, ran, output) for trial, ran in trials}


def _found(trial: Trial, ran: Ran, output: str) -> Found:
    dataset = Dataset.open(join(trial.folder, TEST))
    figures = read_fact(dataset, METRICS)
    with open_committed(dataset, UNIT) as file:
        rows = pq.read_table(file).to_pylist()
    frame_rate = _frame_rate(trial)
    about: dict[str, Any] = {
        "trial": trial.key,
        "task": trial.cell.task.name,
        "factor": trial.cell.factor,
        "level": trial.cell.level,
        "seed": trial.seed,
        "encoder": trial.cell.tokens.encoder,
        "layers": trial.cell.layers,
        "num_clusters": trial.cell.tokens.num_clusters,
        "codebooks_of": trial.cell.tokens.codebooks_of,
        "seconds": ran.seconds,
        "overhead_seconds": ran.overhead_seconds,
        "starts": ran.starts,
        "layer_use": _layer_use(dataset, figures, trial),
        "folder": trial.folder.removeprefix(output).lstrip("/"),
        "command": trial.command(output),
    }
    vocoder = trial.cell.task.name == VOCODER
    told = _spoken(figures, frame_rate, trial) if vocoder else _of_task(figures, frame_rate, trial)
    results = tuple(Result(**about, **each) for each in told)
    metric, parts = trial.cell.task.metric, dict[str, dict[str, Part]]()
    if trial.speech is not None:
        parts[""], heard = _heard(trial.speech, metric)
        results = (*results, Result(**about, **heard, bits_per_second=results[0].bits_per_second))
        rows = []
    side = "" if vocoder else _side(figures)
    spoken = figures["sets"] if vocoder else [""]
    for row in rows:
        if row.get("side", side) != side or row.get("condition", "") not in spoken:
            continue
        given = part(metric, row)
        if given is not None:
            parts.setdefault(row.get("condition", ""), {})[row["utterance_id"]] = given
    return Found(results=results, parts=parts)


def _heard(speech: Speech, metric: str) -> tuple[dict[str, Part], dict[str, Any]]:
    """Give what each text of the test gives to a metric of what is heard, and its figure."""
    found = {}
    if was_heard(speech):
        with open_committed(Dataset.open(speech.listen.output), UNIT) as file:
            found = {row["utterance_id"]: part(metric, row) for row in pq.read_table(file).to_pylist()}
    parts = {name: given for name, given in found.items() if given is not None}
    for name, said in expected(speech.manifest).items():
        if name not in parts:
            length = float(len(said.split()) if metric == "wer" else len(said))
            parts[name] = Part(numerator=length, denominator=length)
    above, below = (np.array([getattr(each, side) for each in parts.values()]) for side in ("numerator", "denominator"))
    figure = asdict(bootstrap_interval(rate(above, below), len(parts)))
    return parts, {"condition": "", "metric": metric, **figure, "utterances": len(parts)}


def _frame_rate(trial: Trial) -> float:
    lineage = Dataset.open(trial.training.flat()["tokens"], kind="tokens").plan.lineage
    return float(lineage["sample_rate"] / lineage["hop_length"])


def _side(figures: Mapping[str, Any]) -> str:
    """Name the side that counts: the test, or all of a corpus that is nothing but a test."""
    return SIDE if SIDE in figures["sides"] else next(iter(figures["sides"]))


def _bits(frame_rate: float, layers: int, trial: Trial) -> float:
    """Give the bits per second of the tokens of some layers."""
    return frame_rate * layers * log2(trial.cell.tokens.num_clusters)


def _of_task(figures: Mapping[str, Any], frame_rate: float, trial: Trial) -> Iterator[dict[str, Any]]:
    """Give a row per known metric of the test."""
    side = figures["sides"][_side(figures)]
    bits = _bits(frame_rate, len(trial.cell.layers), trial)
    for name, found in side["metrics"].items():
        if name in KNOWN:
            yield {"condition": "", "metric": name, **found, "utterances": side["utterances"], "bits_per_second": bits}


def _spoken(figures: Mapping[str, Any], frame_rate: float, trial: Trial) -> Iterator[dict[str, Any]]:
    """Give a row per known measure of each set of layers that is spoken."""
    for told in figures["conditions"]:
        if told["condition"] not in figures["sets"]:
            continue
        bits = _bits(frame_rate, len(figures["sets"][told["condition"]]), trial)
        for name, found in told["figures"].items():
            if name in KNOWN and found["interval"] is not None:
                yield {
                    "condition": told["condition"],
                    "metric": name,
                    **found["interval"],
                    "utterances": found["utterances"],
                    "bits_per_second": bits,
                }


def _layer_use(dataset: Dataset, figures: Mapping[str, Any], trial: Trial) -> tuple[float, ...]:
    """Give the mean weight of each layer on the test, in the order of the layers; none where the fusion has none."""
    if trial.cell.task.name == VOCODER:
        used = figures["layer_use"]
    else:
        use = read_fact(dataset, LAYER_USE)
        if not use["sides"]:
            return ()
        used = dict(zip(use["layers"], use["sides"][_side(use)]["all"]["mean"], strict=True))
    return tuple(used[layer_column(layer)] for layer in trial.cell.layers) if used else ()
