"""Several vocoders' evaluations in one table: every condition, and what it has more than the first set of the first.

Differences are over the utterances that both have, so their intervals are narrower than those of the figures.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cards.facts import card_bytes
from pipeline.cards.markdown import page, table
from pipeline.cards.text import escaped
from pipeline.errors import SettingsError
from pipeline.evaluation.comparison import COMPARISON, METRICS, figure_text, read_fact, write_comparison
from pipeline.evaluation.speech.report import SHOWN
from pipeline.metrics.speech.judge import Measure
from pipeline.metrics.speech.rows import ERRORS, Row
from pipeline.metrics.speech.summary import Figure, paired
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_committed

KIND = "speech_evaluation"
_FRAMES = ("original", "griffin_lim", "other")
"""Conditions that have nothing of the vocoder: they are listed once, of the first evaluation."""


@dataclass(frozen=True, kw_only=True)
class SpeechComparisonReport:
    """Evaluations of vocoders side by side.

    Attributes:
        stage: ``comparison``.
        output: Folder of ``comparison.md`` and ``comparison.json``.
        compared_with: Evaluation and condition that differences are against.
        rows: Of each evaluation and condition: its figures, and what they have more than those.
        wall_seconds: Time this run took.
    """

    stage: str
    output: str
    compared_with: tuple[str, str]
    rows: Sequence[Mapping[str, Any]]
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", f"{self.output}/comparison.md")]
        for row in self.rows:
            figures = {name: row["figures"].get(name) for name in SHOWN}
            told = [f"{name} {found['value']:.3f}" for name, found in figures.items() if found is not None]
            lines.append((f"{row['evaluation']} {row['condition']}", ", ".join(told) or "none"))
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s")]


def compare_speech(uris: Sequence[str], output: str) -> SpeechComparisonReport:
    """Write ``comparison.md`` and ``comparison.json``: a row per evaluation and condition, in the order given.

    Args:
        uris: Finished evaluations of vocoders; the first set of layers of the first is what the others are compared
            with.
        output: Folder of the table.

    Raises:
        CorruptDatasetError: A file of an evaluation is gone, or not what was committed.
        DatasetError: One is no finished evaluation.
        SettingsError: The output folder holds a dataset, an evaluation is named twice, or one has no utterance of the
            first.
    """
    began = time.monotonic()
    if len(set(uris)) < len(uris):
        raise SettingsError("an evaluation is named twice; each can be compared once")
    opened = [Dataset.open(uri, kind=KIND) for uri in uris]
    found = {dataset.uri: read_fact(dataset, METRICS) for dataset in opened}
    tables = [_table(dataset) for dataset in opened]
    measures = _measures(found.values(), tables)
    rows = [row for dataset, one in zip(opened, tables, strict=True) for row in _labelled(dataset, one)]
    first = (opened[0].uri, next(iter(found[opened[0].uri]["sets"])))
    lines = [
        _line(uri, told, first, rows, measures)
        for number, (uri, facts) in enumerate(found.items())
        for told in facts["conditions"]
        if number == 0 or told["condition"] not in _FRAMES
    ]
    _refuse_strangers(lines, opened[0].uri)
    facts = {"compared_with": list(first), "rows": lines}
    shown = [name for name in measures if name in SHOWN]
    text = _markdown(lines, shown, first, several=len({one["manifest_sha256"] for one in found.values()}) > 1)
    uri = write_comparison(output, {f"{COMPARISON}.json": card_bytes(facts), f"{COMPARISON}.md": text.encode()})
    return SpeechComparisonReport(
        stage=COMPARISON, output=uri, compared_with=first, rows=lines, wall_seconds=time.monotonic() - began
    )


def _refuse_strangers(rows: Sequence[Mapping[str, Any]], first: str) -> None:
    """Refuse an evaluation that has no utterance of the first: its figures say nothing beside those of the first."""
    strangers = [row["evaluation"] for row in rows if row["evaluation"] != first and not row["shared"]]
    if strangers:
        raise SettingsError(
            f"{strangers[0]} and {first} have no utterance in common, so they cannot be compared; judge both vocoders "
            "on the same manifest"
        )


def _table(dataset: Dataset) -> pa.Table:
    (commit,) = dataset.commits()
    return pq.read_table(pa.BufferReader(read_committed(dataset, commit.unit)))


def _measures(found: Iterable[Mapping[str, Any]], tables: Sequence[pa.Table]) -> dict[str, Measure]:
    """Give all measures that an evaluation has, by name."""
    measures: dict[str, Measure] = {}
    for facts, one in zip(found, tables, strict=True):
        for told in facts["measures"]:
            counted = told["name"] + ERRORS in one.column_names
            measures.setdefault(told["name"], Measure(**told, counted=counted))
    return measures


def _labelled(dataset: Dataset, rows: pa.Table) -> list[Row]:
    """Give the rows of an evaluation, the condition with the evaluation's name."""
    return [{**row, "condition": _label(dataset.uri, row["condition"])} for row in rows.to_pylist()]


def _label(uri: str, condition: str) -> str:
    return f"{uri} {condition}"


def _line(
    uri: str,
    told: Mapping[str, Any],
    first: tuple[str, str],
    rows: Sequence[Row],
    measures: Mapping[str, Measure],
) -> dict[str, Any]:
    condition, known = told["condition"], told["figures"]
    differences: dict[str, Any] = {}
    shared = 0
    if (uri, condition) != first and condition not in _FRAMES:
        pair = (_label(uri, condition), _label(*first))
        of_both = [row for row in rows if row["condition"] in pair]
        ids = [{row["utterance_id"] for row in of_both if row["condition"] == label} for label in pair]
        shared = len(ids[0] & ids[1])
        both = [name for name in measures if all(name in row for row in of_both)]
        differences = {name: _plain(paired(of_both, measures[name], *pair)) for name in both}
    return {
        "evaluation": uri,
        "condition": condition,
        "utterances": len({row["utterance_id"] for row in rows if row["condition"] == _label(uri, condition)}),
        "shared": shared,
        "figures": {name: known[name]["interval"] if name in known else None for name in measures},
        "differences": differences,
    }


def _plain(figure: Figure) -> dict[str, Any] | None:
    return None if figure.interval is None else {**asdict(figure.interval), "utterances": figure.utterances}


def _markdown(rows: Sequence[Mapping[str, Any]], names: Sequence[str], first: tuple[str, str], *, several: bool) -> str:
    head = ["evaluation", "condition", "utterances", *names]
    figures = [
        [*map(escaped, _about(row)), str(row["utterances"]), *(figure_text(row["figures"][name]) for name in names)]
        for row in rows
    ]
    differences = [
        [*map(escaped, _about(row)), str(row["shared"]), *(figure_text(row["differences"].get(name)) for name in names)]
        for row in rows
        if row["differences"]
    ]
    note = "These evaluations are of different manifests: their figures say nothing of each other." if several else ""
    parts = ["# Vocoders", "Figures with 95 % bootstrap intervals over utterances.", note, table(head, figures)]
    if differences:
        against = f"{escaped(first[0])}, {escaped(first[1])}"
        told = f"What each has more than {against}, over the utterances that both have:"
        parts += [told, table(head, differences)]
    return page(parts)


def _about(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["evaluation"], row["condition"]
