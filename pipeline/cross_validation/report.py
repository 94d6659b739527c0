"""What cross_validate says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.cross_validation.pooling import POOLED


@dataclass(frozen=True, kw_only=True)
class CrossValidationReport:
    """What all folds found, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: ``cross_validation``.
        task: Which task.
        output: Where.
        dataset_sha256: Hash of the pooled rows and what they follow from.
        pooled: ``utterances``, ``left_out`` by reason, and ``metrics`` with their intervals, over all folds.
        over_folds: ``mean`` and ``standard_error`` of each metric over folds.
        folds: Of each fold its name, what it was tested on, and its metrics.
        layer_use: Mean weight of each layer over all folds; empty where the fusion has none.
        reason: Why there is no layer use.
        folds_done_now: Folds that this run trained or tested.
        wall_seconds: Time this run took.
        plots: Whether plots were drawn.
    """

    stage: str
    task: str
    output: str
    dataset_sha256: str
    pooled: Mapping[str, Any]
    over_folds: Mapping[str, Mapping[str, float]]
    folds: Sequence[Mapping[str, Any]]
    layer_use: Mapping[str, float]
    reason: str | None
    folds_done_now: int
    wall_seconds: float
    plots: bool

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", self.output), ("task", self.task)]
        for fold in self.folds:
            figures = ", ".join(f"{name} {found['value']:.4f}" for name, found in fold["metrics"].items())
            lines.append((f"fold {fold['fold']}", f"{fold['utterances']:,} utterances; {figures}"))
        lines.append((POOLED, f"{self.pooled['utterances']:,} utterances of {len(self.folds)} folds"))
        lines += left_out_lines(self.pooled["left_out"])
        for name, found in self.pooled["metrics"].items():
            over = self.over_folds[name]
            interval = f"95 %: {found['low']:.4f} to {found['high']:.4f}"
            folds = f"over folds {over['mean']:.4f}, standard error {over['standard_error']:.4f}"
            lines.append((f"  {name}", f"{found['value']:.4f} ({interval}); {folds}"))
        used = ", ".join(f"{name} {weight:.3f}" for name, weight in self.layer_use.items())
        lines.append(("layer use", used or f"none: {self.reason}"))
        lines.append(("page", f"{self.output}/index.html"))
        lines.append(("plots", "yes" if self.plots else 'none: pip install "strata-tokens[plots]"'))
        lines.append(("folds made now", f"{self.folds_done_now}"))
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s")]
