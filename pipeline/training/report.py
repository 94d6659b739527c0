"""What a trained network says of itself, whichever it is."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset
from pipeline.training.publishing import model_commit


@dataclass(frozen=True, kw_only=True)
class TrainedReport:
    """What a training did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        num_steps: Steps in all.
        kept_step: Step whose weights are kept.
        ended: Why it ended: steps, patience or time.
        left_out: Training utterances that were left out, by reason.
        metrics: Validation of the weights that are kept.
        wall_seconds: Time this run took.
        num_parameters: Weights of the network, as it is kept.
        workers: How the run lay on the cluster.
    """

    stage: str
    output: str
    dataset_sha256: str
    num_steps: int
    kept_step: int
    ended: str
    left_out: Mapping[str, int]
    metrics: Mapping[str, float]
    wall_seconds: float
    num_parameters: int
    workers: str

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def told(self, what: Iterable[tuple[str, str]], amount: tuple[str, str]) -> list[tuple[str, str]]:
        """Give the report as label and value pairs.

        Args:
            what: What was trained.
            amount: What it was trained on.
        """
        lines = [("output", self.output), *what]
        lines += [("steps", f"{self.num_steps:,}, ended by {self.ended}; kept are those of step {self.kept_step:,}")]
        lines += [amount, *left_out_lines(self.left_out)]
        lines += [(name.replace("_", " "), f"{value:.4g}") for name, value in self.metrics.items()]
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s"), ("workers", self.workers)]


def trained_facts(dataset: Dataset, workers: str, seconds: float) -> dict[str, Any]:
    """Give what every report of a finished training says, by name; the stage is not in it.

    Raises:
        DatasetError: It has no commit.
    """
    commit = model_commit(dataset)
    notes = commit.notes
    return {
        "output": dataset.uri,
        "dataset_sha256": str(success(dataset)["dataset_sha256"]),
        "num_steps": int(notes["steps"]),
        "kept_step": int(notes["step"]),
        "ended": str(notes["ended"]),
        "left_out": dict(notes["left_out"]),
        "metrics": dict(notes["metrics"]),
        "wall_seconds": seconds,
        "num_parameters": commit.data.rows,
        "workers": workers,
    }
