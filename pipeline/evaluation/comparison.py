"""Several finished evaluations in one table, as Markdown and JSON."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cards.facts import card_bytes
from pipeline.cards.markdown import page, table
from pipeline.cards.text import escaped
from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.evaluation.report import ComparisonReport
from pipeline.store.dataset import PLAN, Dataset, sha256
from pipeline.store.storage import open_store

METRICS, LAYER_USE = "metrics.json", "layer_use.json"
UNIT = "utterances"
"""The one unit of an evaluation: a row per utterance."""
COMPARISON = "comparison"


def read_facts(dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read ``metrics.json`` and ``layer_use.json`` of a finished evaluation.

    Raises:
        CorruptDatasetError: A file is gone, or not what was committed.
    """
    return read_fact(dataset, METRICS), read_fact(dataset, LAYER_USE)


def read_fact(dataset: Dataset, name: str) -> dict[str, Any]:
    """Read one of the JSON files of a finished evaluation.

    Raises:
        CorruptDatasetError: It is gone, or not what was committed.
    """
    try:
        data = dataset.store.read(name)
    except FileNotFoundError:
        data = b""
    if sha256(data) != dataset.commits()[0].beside[name].sha256:
        raise CorruptDatasetError(f"{dataset.uri}/{name} is gone or not what was committed; evaluate again elsewhere")
    found: dict[str, Any] = json.loads(data)
    return found


def compare(uris: Sequence[str], output: str) -> ComparisonReport:
    """Write ``comparison.md`` and ``comparison.json``: a row per evaluation and side, in the order given.

    Raises:
        DatasetError: One is no finished evaluation.
        SettingsError: The output folder holds a dataset.
    """
    began = time.monotonic()
    rows = [row for uri in uris for row in _rows(uri)]
    files = {f"{COMPARISON}.json": card_bytes({"rows": rows}), f"{COMPARISON}.md": _markdown(rows).encode()}
    uri = write_comparison(output, files)
    return ComparisonReport(stage=COMPARISON, output=uri, rows=rows, wall_seconds=time.monotonic() - began)


def write_comparison(output: str, files: Mapping[str, bytes]) -> str:
    """Write the files of a table into a folder of its own, and give the folder.

    Raises:
        SettingsError: The output folder holds a dataset.
    """
    store = open_store(output)
    if store.exists(PLAN):
        raise SettingsError(f"{store.uri} holds a dataset; give the table a folder of its own")
    for name, data in files.items():
        store.write(name, data)
    return store.uri


def _rows(uri: str) -> list[dict[str, Any]]:
    dataset = Dataset.open(uri)
    if dataset.plan.kind not in ("evaluation", "cross_validation"):
        raise DatasetError(f"{dataset.uri} is a {dataset.plan.kind} dataset where an evaluation is needed")
    figures, use = read_facts(dataset)
    return [
        {
            "evaluation": dataset.uri,
            "side": side,
            **{name: figures[name] for name in ("task", "fusion", "layers", "manifest_sha256")},
            "utterances": told["utterances"],
            "metrics": {**told["metrics"]},
            "layer_use": _used(use, side),
        }
        for side, told in figures["sides"].items()
    ]


def _used(use: Mapping[str, Any], side: str) -> dict[str, float]:
    if side not in use["sides"]:
        return {}
    return dict(zip(use["layers"], use["sides"][side]["all"]["mean"], strict=True))


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    head = ["evaluation", "side", "utterances", "task", "fusion", "layers", *metrics, "layer use"]
    lines = []
    for row in rows:
        about = [
            row["evaluation"],
            row["side"],
            row["utterances"],
            row["task"],
            row["fusion"],
            ", ".join(row["layers"]),
        ]
        used = ", ".join(f"{name} {weight:.3f}" for name, weight in row["layer_use"].items()) or "none"
        figures = [figure_text(row["metrics"].get(name)) for name in metrics]
        lines.append([*map(escaped, about), *figures, escaped(used)])
    several = len({row["manifest_sha256"] for row in rows}) > 1
    note = "These evaluations are of different manifests: their figures say nothing of each other." if several else ""
    told = "Figures with 95 % bootstrap intervals over utterances; layer use is the mean weight over real frames."
    return page(["# Evaluations", told, note, table(head, lines)])


def figure_text(found: Mapping[str, float] | None) -> str:
    """Write a figure with its interval; nothing where there is none."""
    return "" if found is None else f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
