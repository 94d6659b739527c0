"""What a trained task says of itself."""

from dataclasses import dataclass

from pipeline.store.dataset import Dataset
from pipeline.training.publishing import model_commit
from pipeline.training.report import TrainedReport, trained_facts


@dataclass(frozen=True, kw_only=True)
class TaskReport(TrainedReport):
    """What training a task did.

    Attributes:
        task: Which task.
        utterances: Utterances learned from, over all epochs.
    """

    task: str
    utterances: float

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        what = [("task", self.task), ("parameters", f"{self.num_parameters:,}")]
        return self.told(what, ("utterances", f"{self.utterances:,.0f}, all epochs together"))


def report_of(dataset: Dataset, workers: str, seconds: float) -> TaskReport:
    """Report of a finished folder.

    Raises:
        DatasetError: It has no commit.
    """
    return TaskReport(
        stage="task",
        task=str(dataset.plan.content["task"]),
        utterances=float(model_commit(dataset).notes["utterances"]),
        **trained_facts(dataset, workers, seconds),
    )
