"""What a trained vocoder says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset
from pipeline.training.publishing import model_commit


@dataclass(frozen=True, kw_only=True)
class VocoderReport:
    """What training a vocoder did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        layers: The layers that it speaks.
        num_steps: Steps in all.
        kept_step: Step whose weights are kept.
        ended: Why it ended: steps, patience or time.
        audio_hours: Audio learned from, over all epochs.
        left_out: Training utterances that were left out, by reason.
        metrics: Validation of the weights that are kept.
        wall_seconds: Time this run took.
        num_parameters: Weights of the vocoder, weight norm folded.
        num_bytes: Bytes of its weights on disk.
        workers: How the run lay on the cluster.
    """

    stage: str
    output: str
    dataset_sha256: str
    layers: tuple[str, ...]
    num_steps: int
    kept_step: int
    ended: str
    audio_hours: float
    left_out: Mapping[str, int]
    metrics: Mapping[str, float]
    wall_seconds: float
    num_parameters: int
    num_bytes: int
    workers: str

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return {**asdict(self), "layers": list(self.layers)}

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        size = f"{self.num_parameters:,} parameters, {self.num_bytes / 1e6:.2f} MB"
        lines = [("output", self.output), ("vocoder", f"{size}; any of {', '.join(self.layers)}")]
        lines += [("steps", f"{self.num_steps:,}, ended by {self.ended}; kept are those of step {self.kept_step:,}")]
        lines += [("audio", f"{self.audio_hours:.2f} h, all epochs together"), *left_out_lines(self.left_out)]
        lines += [(name.replace("_", " "), f"{value:.4g}") for name, value in self.metrics.items()]
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s"), ("workers", self.workers)]


def report_of(dataset: Dataset, workers: str, seconds: float) -> VocoderReport:
    """Report of a finished folder.

    Raises:
        DatasetError: It has no commit.
    """
    commit = model_commit(dataset)
    notes = commit.notes
    return VocoderReport(
        stage="vocoder",
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        layers=tuple(dataset.plan.content["layers"]),
        num_steps=int(notes["steps"]),
        kept_step=int(notes["step"]),
        ended=str(notes["ended"]),
        audio_hours=commit.seconds / 3600,
        left_out=dict(notes["left_out"]),
        metrics=dict(notes["metrics"]),
        wall_seconds=seconds,
        num_parameters=commit.data.rows,
        num_bytes=commit.data.bytes,
        workers=workers,
    )
