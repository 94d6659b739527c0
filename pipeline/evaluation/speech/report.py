"""What the evaluation of a vocoder says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.evaluation.comparison import METRICS, read_fact
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset

SHOWN = (
    *("stft_distance", "log_mel_distance", "mcd", "f0_correlation"),
    *("stoi", "dnsmos_ovrl", "speaker_similarity", "wer"),
)
"""Measures that reports and tables show; the page and the JSON have all."""


@dataclass(frozen=True, kw_only=True)
class SpeechReport:
    """What judges found, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: ``speech_evaluation``, or ``recorded_evaluation``.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        side: What was judged.
        utterances: How many.
        conditions: By condition and measure; None where there is no value. Intervals are in ``metrics.json``.
        layer_use: Of a vocoder, mean weight of each layer, from the first set.
        heard: That set; empty where recordings were judged.
        unjudged: Figures that lack utterances, a sentence each.
        wall_seconds: Time this run took.
    """

    stage: str
    output: str
    dataset_sha256: str
    side: str
    utterances: int
    conditions: Mapping[str, Mapping[str, float | None]]
    layer_use: Mapping[str, float]
    heard: str
    unjudged: int
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", self.output), ("judged", f"{self.utterances:,} utterances of {self.side}")]
        for condition, told in self.conditions.items():
            known = [f"{name} {told[name]:.3f}" for name in SHOWN if told.get(name) is not None]
            lines.append((condition, ", ".join(known) or "none"))
        if self.layer_use:
            lines.append(
                (
                    f"layer use, {self.heard}",
                    ", ".join(f"{name} {weight:.3f}" for name, weight in self.layer_use.items()),
                )
            )
        if self.unjudged:
            lines.append(("figures missing", f"{self.unjudged:,}, of utterances that a judge could not judge"))
        return [*lines, ("page", f"{self.output}/index.html"), ("wall time", f"{self.wall_seconds:.1f} s")]


def report_of(dataset: Dataset, seconds: float) -> SpeechReport:
    """Report of a finished evaluation.

    Raises:
        CorruptDatasetError: Its figures are gone, or not what was committed.
    """
    found = read_fact(dataset, METRICS)
    shown = [measure["name"] for measure in found["measures"]]
    conditions = {
        told["condition"]: {name: _value(told["figures"][name]) for name in shown} for told in found["conditions"]
    }
    missing = sum(
        sum(figure["unjudged"].values()) for told in found["conditions"] for figure in told["figures"].values()
    )
    return SpeechReport(
        stage=dataset.plan.kind,
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        side=found["side"],
        utterances=found["utterances"],
        conditions=conditions,
        layer_use=found.get("layer_use", {}),
        heard=next(iter(dataset.plan.content.get("sets", {})), ""),
        unjudged=missing,
        wall_seconds=seconds,
    )


def _value(figure: Mapping[str, Any]) -> float | None:
    return None if figure["interval"] is None else float(figure["interval"]["value"])
