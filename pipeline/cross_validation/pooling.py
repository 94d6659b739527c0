"""What all folds say together: figures over all utterances, mean and standard error over folds, pooled layer use."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.evaluation.measuring import CLASSED, confusion, measures, side_use
from pipeline.metrics.uncertainty import over_seeds
from pipeline.store.dataset import canonical, sha256

POOLED = "pooled"
"""What the side of all folds together is called."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldResult:
    """What a fold gave.

    Attributes:
        name: Of its folder.
        tested_on: Values that it left out of training.
        kept_step: Step whose weights were kept.
        figures: ``metrics.json`` of its evaluation.
        use: ``layer_use.json`` of its evaluation.
        rows: ``utterances.parquet`` of its evaluation.
    """

    name: str
    tested_on: tuple[str, ...]
    kept_step: int
    figures: Mapping[str, Any]
    use: Mapping[str, Any]
    rows: pa.Table

    @property
    def test(self) -> Mapping[str, Any]:
        """Figures of its one side."""
        found: Mapping[str, Any] = self.figures["sides"]["test"]
        return found

    def told(self) -> dict[str, Any]:
        """Give the fold as a row."""
        return {
            "fold": self.name,
            "tested_on": list(self.tested_on),
            "kept_step": self.kept_step,
            **{name: self.test[name] for name in ("utterances", "left_out", "metrics")},
            "model_sha256": self.figures["model_sha256"],
        }


def pooled_rows(folds: Sequence[FoldResult]) -> pa.Table:
    """Lay the rows of all folds below each other, with the fold of each, sorted by utterance id."""
    tables = [fold.rows.append_column("fold", pa.array([fold.name] * fold.rows.num_rows)) for fold in folds]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables]).sort_by("utterance_id")


def pooled_figures(folds: Sequence[FoldResult], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give ``metrics.json``: that of an evaluation whose one side is all folds, and what folds say one by one.

    Args:
        folds: At least two.
        rows: Of ``pooled_rows``.
    """
    first, task = folds[0].figures, folds[0].figures["task"]
    left_out: dict[str, int] = {}
    for fold in folds:
        for reason, count in fold.test["left_out"].items():
            left_out[reason] = left_out.get(reason, 0) + count
    side: dict[str, Any] = {"utterances": len(rows), "left_out": left_out, "metrics": measures(task, rows)}
    if task in CLASSED:
        side["confusion"] = confusion(rows)
    models = [fold.figures["model_sha256"] for fold in folds]
    return {
        **{name: value for name, value in first.items() if name not in ("sides", "trials", "model_sha256")},
        "model_sha256": sha256(canonical(models).encode()),
        "sides": {POOLED: side},
        "trials": None,
        "over_folds": {
            name: _over([fold.test["metrics"][name]["value"] for fold in folds]) for name in side["metrics"]
        },
        "folds": [fold.told() for fold in folds],
    }


def pooled_use(folds: Sequence[FoldResult], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give ``layer_use.json``: over all real frames, and the mean and standard error of the folds' own means."""
    first = folds[0].use
    about = {name: first[name] for name in ("task", "fusion", "layers", "reason")}
    if first["reason"] is not None:
        return {**about, "sides": {}, "over_folds": {}, "examples": []}
    means = [fold.use["sides"]["test"]["all"]["mean"] for fold in folds]
    over = {name: _over([mean[place] for mean in means]) for place, name in enumerate(first["layers"])}
    used = side_use(first["task"], rows, first["layers"])
    return {**about, "sides": {POOLED: used}, "over_folds": over, "examples": []}


def _over(values: Sequence[float]) -> dict[str, Any]:
    found = asdict(over_seeds(values))
    return {"mean": found["mean"], "standard_error": found["standard_error"], "folds": found["runs"]}
