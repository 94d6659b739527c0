"""What a trained vocoder says of itself."""

from dataclasses import dataclass

from pipeline.store.dataset import Dataset
from pipeline.training.publishing import model_commit
from pipeline.training.report import TrainedReport, trained_facts


@dataclass(frozen=True, kw_only=True)
class VocoderReport(TrainedReport):
    """What training a vocoder did; its weights are counted with weight norm folded.

    Attributes:
        layers: The layers that it speaks.
        audio_hours: Audio learned from, over all epochs.
        num_bytes: Bytes of its weights on disk.
    """

    layers: tuple[str, ...]
    audio_hours: float
    num_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        size = f"{self.num_parameters:,} parameters, {self.num_bytes / 1e6:.2f} MB"
        what = [("vocoder", f"{size}; any of {', '.join(self.layers)}")]
        return self.told(what, ("audio", f"{self.audio_hours:.2f} h, all epochs together"))


def report_of(dataset: Dataset, workers: str, seconds: float) -> VocoderReport:
    """Report of a finished folder.

    Raises:
        DatasetError: It has no commit.
    """
    commit = model_commit(dataset)
    return VocoderReport(
        stage="vocoder",
        layers=tuple(dataset.plan.content["layers"]),
        audio_hours=commit.seconds / 3600,
        num_bytes=commit.data.bytes,
        **trained_facts(dataset, workers, seconds),
    )
