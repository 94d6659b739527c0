"""What a trained task says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset
from pipeline.training.publishing import model_commit


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What training a task did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        task: Which task.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        num_steps: Steps in all.
        best_step: Step whose weights are kept.
        ended: Why it ended: steps, patience or time.
        utterances: Utterances learned from, over all epochs.
        left_out: Training utterances that were left out, by reason.
        metrics: Validation of the weights that are kept.
        wall_seconds: Time this run took.
        num_parameters: Weights of the fuser and the task's network.
        workers: How the run lay on the cluster.
    """

    stage: str
    task: str
    output: str
    dataset_sha256: str
    num_steps: int
    best_step: int
    ended: str
    utterances: float
    left_out: Mapping[str, int]
    metrics: Mapping[str, float]
    wall_seconds: float
    num_parameters: int
    workers: str

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("output", self.output), ("task", self.task), ("parameters", f"{self.num_parameters:,}")]
        lines += [("steps", f"{self.num_steps:,}, ended by {self.ended}; kept are those of step {self.best_step:,}")]
        lines += [("utterances", f"{self.utterances:,.0f}, all epochs together"), *left_out_lines(self.left_out)]
        lines += [(name.replace("_", " "), f"{value:.4g}") for name, value in self.metrics.items()]
        return [*lines, ("wall time", f"{self.wall_seconds:.1f} s"), ("workers", self.workers)]


def report_of(dataset: Dataset, workers: str, seconds: float) -> TaskReport:
    """Report of a finished folder.

    Raises:
        DatasetError: It has no commit.
    """
    commit = model_commit(dataset)
    notes = commit.notes
    return TaskReport(
        stage="task",
        task=str(dataset.plan.content["task"]),
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        num_steps=int(notes["steps"]),
        best_step=int(notes["step"]),
        ended=str(notes["ended"]),
        utterances=float(notes["utterances"]),
        left_out=dict(notes["left_out"]),
        metrics=dict(notes["metrics"]),
        wall_seconds=seconds,
        num_parameters=commit.data.rows,
        workers=workers,
    )
