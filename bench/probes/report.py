"""The figures of bench/probes.py, gathered over seeds, and the tables in which people read them."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.probes.tasks import INFORMED, Task

PARTS = ("features", "tokens", "perplexity", "information")
"""Kinds of figures."""
ESTIMATES = ("plain", "corrected", "shuffled_plain", "shuffled_corrected")


class Figures:
    """What was measured, seed after seed: by part, system, layer and measure."""

    def __init__(self) -> None:
        self._by_seed: dict[tuple[str, str, int, str], list[float]] = {}

    def add(self, part: str, system: str, layer: int, measure: str, value: float) -> None:
        """Take the figure of the next seed.

        Args:
            part: One of ``PARTS``.
            system: Name of the system.
            layer: Its layer.
            measure: A task; for information the label and the estimate, as ``digit_corrected``.
            value: A share of utterances, or bits.
        """
        self._by_seed.setdefault((part, system, layer, measure), []).append(value)

    def rows(self, part: str) -> list[dict[str, Any]]:
        """Give the figures of a part; ``std`` is that of a sample, None of one seed."""
        return [
            {
                "system": system,
                "layer": layer,
                "measure": measure,
                "seed_0": values[0],
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "by_seed": values,
            }
            for (own, system, layer, measure), values in self._by_seed.items()
            if own == part
        ]


def task_facts(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Say of each task how many utterances are learned from and told, in how many folds, and what guessing gives."""
    return [
        {
            "task": task.name,
            "classes": list(task.classes),
            "folds": len(task.folds),
            "train": sum(len(fold.train) for fold in task.folds) // len(task.folds),
            "test": sum(len(fold.test) for fold in task.folds),
            "majority": task.majority,
        }
        for task in tasks
    ]


def show(found: Mapping[str, Any]) -> None:
    """Print a table for each part on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=150)
    for title, header, lines in tables(found):
        table = Table(title=title)
        for place, name in enumerate(header):
            table.add_column(name, justify="left" if place == 0 else "right")
        for line in lines:
            table.add_row(*line)
        console.print(table)


def tables(found: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Give the title, the header and the lines of each table, from the figures as they are printed as JSON."""
    tasks = [each["task"] for each in found["tasks"]]
    many = f"mean +- standard deviation of {found['settings']['seeds']} seeds (seed 0)"
    guess = ["most frequent class", "", *(f"{100 * each['majority']:.1f}" for each in found["tasks"])]
    for part, what in (("features", "features"), ("tokens", f"tokens, K = {found['settings']['num_clusters']}")):
        if found[part]:
            lines = [[name, str(layer), *cells] for name, layer, cells in _lines(found[part], tasks, 100, 1)]
            yield f"Accuracy of {what}, %: {many}", ["system", "layer", *tasks], [guess, *lines]
    if found["perplexity"]:
        lines = [[name, str(layer), *cells] for name, layer, cells in _lines(found["perplexity"], INFORMED, 1, 1)]
        yield f"Perplexity of the tokens told: {many}", ["system", "layer", *INFORMED], lines
    if found["information"]:
        lines = []
        for label in INFORMED:
            measures = [f"{label}_{estimate}" for estimate in ESTIMATES]
            lines += [
                [name, str(layer), label, *cells] for name, layer, cells in _lines(found["information"], measures, 1, 3)
            ]
        header = ["system", "layer", "label", *(estimate.replace("_", ", ") for estimate in ESTIMATES)]
        yield f"I(token; label) of frames, bits: {many}", header, lines


def _lines(
    rows: Sequence[Mapping[str, Any]], measures: Sequence[str], scale: float, digits: int
) -> list[tuple[str, int, list[str]]]:
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for row in rows:
        mean, first = (f"{scale * row[name]:.{digits}f}" for name in ("mean", "seed_0"))
        cell = mean if row["std"] is None else f"{mean} +- {scale * row['std']:.{digits}f} ({first})"
        cells.setdefault((row["system"], row["layer"]), {})[row["measure"]] = cell
    return [(name, layer, [own[measure] for measure in measures]) for (name, layer), own in cells.items()]
