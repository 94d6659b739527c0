"""Settings of cross_validate, checked before anything is read."""

from dataclasses import dataclass, field, fields
from typing import Literal, Self

from pipeline.errors import SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.settings import Settings
from pipeline.store.storage import join, located
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.tasks.division import DivisionSettings
from pipeline.tasks.settings import TrainTaskConfig

KEPT = ("valid_fraction", "divide_by")
"""Settings of the division that hold within a fold: how its training utterances give some to validation."""


@dataclass(frozen=True, kw_only=True)
class FoldSettings(Settings):
    """What is left out in turn."""

    folds_by: Literal["speaker", "split"] = "speaker"
    """Column of the manifest whose values are tested on in turn; split where the corpus has its sessions there."""
    num_folds: int | None = None
    """Groups of values, drawn by hash, each of as many values; default: a fold per value."""
    examples: int = 3
    """Utterances whose layer weights are shown over time, in the page of each fold."""

    def __post_init__(self) -> None:
        if self.folds_by not in ("speaker", "split"):
            raise SettingsError(
                f"folds_by must be speaker or split, got {self.folds_by!r}; sessions stand in the split column"
            )
        if self.num_folds is not None and self.num_folds < 2:
            raise SettingsError(f"num_folds must be at least 2, got {self.num_folds}")
        if self.examples < 0:
            raise SettingsError(f"examples must be at least 0, got {self.examples}")


@dataclass(frozen=True, kw_only=True)
class CrossValidateConfig(Settings):
    """Settings of cross_validate."""

    run: TrainTaskConfig
    """What each fold trains; its output is the folder of all folds."""
    folding: FoldSettings = field(default_factory=FoldSettings)
    """What is left out in turn."""
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    """For asr: how transcripts are found."""

    def __post_init__(self) -> None:
        if self.run.task == "sid" and self.folding.folds_by == "speaker":
            raise SettingsError("sid tells speakers apart that training has heard; it has no folds by speaker")
        if self.run.task != "asr" and self.decoding != DecodingSettings():
            raise SettingsError(f"beam_width and language_model are settings of asr, and the task is {self.run.task}")
        plain, given = DivisionSettings(), self.run.division
        names = [each.name for each in fields(given) if each.name not in KEPT]
        if others := [name for name in names if getattr(given, name) != getattr(plain, name)]:
            raise SettingsError(
                f"{', '.join(others)} would divide the corpus a second time; the folds say what is tested on"
            )

    @property
    def output(self) -> str:
        """Folder of all folds, local or s3://."""
        return self.run.output

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        return located(self.but(run=self.run.located()), "language_model")

    def model(self, name: str) -> str:
        """Name the folder of a fold's model."""
        return join(self.output, "folds", name, "model")

    def training(self, name: str, left_out: tuple[str, ...], values: tuple[str, ...]) -> TrainTaskConfig:
        """Give the settings of the training of a fold.

        Args:
            name: Of the fold.
            left_out: Values that it tests on.
            values: All values.
        """
        if self.folding.folds_by == "speaker":
            return self.run.but(output=self.model(name), test_speakers=left_out)
        others = tuple(value for value in values if value not in left_out)
        return self.run.but(output=self.model(name), train_splits=others, valid_splits=(), test_splits=left_out)

    def evaluation(self, name: str) -> EvaluateConfig:
        """Give the settings of the evaluation of a fold."""
        return EvaluateConfig(
            output=join(self.output, "folds", name, "test"),
            model=self.model(name),
            sides=("test",),
            examples=self.folding.examples,
            batch_seconds=self.run.data.batch_seconds,
            decoding=self.decoding,
            use_gpu=self.run.training.use_gpu,
        )
