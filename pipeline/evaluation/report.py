"""What evaluate says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.batches.pools import left_out_lines


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What an evaluation found, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: ``evaluation``.
        task: Which task.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        sides: By side ``utterances``, ``left_out`` by reason, and ``metrics`` with their intervals.
        trials: Of verification, where there were any.
        layer_use: Mean weight of each layer by side; empty where the fusion has none.
        reason: Why there is no layer use.
        silent: Why there is no spectrogram of an utterance that is shown, by its id.
        wall_seconds: Time this run took.
        plots: Whether plots were drawn.
    """

    stage: str
    task: str
    output: str
    dataset_sha256: str
    sides: Mapping[str, Any]
    trials: Mapping[str, Any] | None
    layer_use: Mapping[str, Mapping[str, float]]
    reason: str | None
    silent: Mapping[str, str]
    wall_seconds: float
    plots: bool

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", self.output), ("task", self.task)]
        for side, told in self.sides.items():
            lines.append((side, f"{told['utterances']:,} utterances"))
            lines += left_out_lines(told["left_out"])
            for name, found in told["metrics"].items():
                lines.append((f"  {name}", f"{found['value']:.4f} (95 %: {found['low']:.4f} to {found['high']:.4f})"))
            if side in self.layer_use:
                lines.append(("  layer use", ", ".join(f"{name} {w:.3f}" for name, w in self.layer_use[side].items())))
        if self.reason is not None:
            lines.append(("layer use", f"none: {self.reason}"))
        if self.trials is not None:
            lines.append(
                (
                    "trials",
                    f"{self.trials['trials']:,}; EER {self.trials['eer']:.4f}, minDCF {self.trials['min_dcf']:.4f}",
                )
            )
            if self.trials["left_out"]:
                lines.append(
                    (
                        "trials left out",
                        f"{self.trials['left_out']:,}, of utterances not evaluated: {self.trials['absent']}",
                    )
                )
        lines += [("no spectrogram", f"{name}: {reason}") for name, reason in self.silent.items()]
        lines.append(("page", f"{self.output}/index.html"))
        lines.append(("plots", "yes" if self.plots else 'none: pip install "strata-tokens[plots]"'))
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s")]


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """Several evaluations side by side.

    Attributes:
        stage: ``comparison``.
        output: Folder of ``comparison.md`` and ``comparison.json``.
        rows: Of each evaluation and side: what it is, and its figures as text.
        wall_seconds: Time this run took.
    """

    stage: str
    output: str
    rows: Sequence[Mapping[str, Any]]
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", f"{self.output}/comparison.md")]
        for row in self.rows:
            figures = [
                f"{name} {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
                for name, found in row["metrics"].items()
            ]
            used = [f"{name} {weight:.3f}" for name, weight in row["layer_use"].items()] or ["no layer use"]
            about = f"{row['task']}, {row['fusion']} of {len(row['layers'])} layers, {row['side']}"
            lines.append((str(row["evaluation"]), "; ".join([about, *figures, ", ".join(used)])))
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s")]
