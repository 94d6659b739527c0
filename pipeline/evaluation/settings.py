"""Settings of evaluate, checked before anything is read."""

from dataclasses import dataclass, field
from typing import Self

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import absolute, located
from pipeline.tasks.asr.settings import DecodingSettings


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Settings):
    """Settings of evaluate."""

    output: str
    """Folder of the evaluation, local or s3://."""
    model: str | None = None
    """Folder of a trained task, local or s3://."""
    tokens: str | None = None
    """Tokens dataset to evaluate on; default: that of the training."""
    features: str | None = None
    """Features dataset, for a task that was trained on features; default: that of the training."""
    manifest: str | None = None
    """Manifest that they were made from; default: that of the training."""
    sides: tuple[str, ...] = ()
    """Sides to evaluate: test, unseen, validation, by default all tests of the division that was trained with; or all:
    every utterance of a manifest of its own."""
    examples: int = 3
    """Utterances whose layer weights are shown over time, beside the spectrogram of their recording."""
    batch_seconds: float = 60.0
    """Audio in one micro-batch at most, seconds."""
    trials: str | None = None
    """For sid: trials of verification, a file of lines "1 ID ID" (1: one speaker, 0: two), or a .csv of the same."""
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    """For asr: how transcripts are found."""
    compare: tuple[str, ...] = ()
    """Finished evaluations to lay side by side in one table, instead of making one."""
    use_gpu: bool | None = None
    """Whether to compute on a GPU; default: where there is one."""

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.compare):
            raise SettingsError(
                "give --model to evaluate a trained task, or --compare for several evaluations; one of both"
            )
        if self.tokens is not None and self.features is not None:
            raise SettingsError("give --tokens or --features, whichever the task was trained on")
        if self.examples < 0:
            raise SettingsError(f"examples must be at least 0, got {self.examples}")
        if not self.batch_seconds > 0:
            raise SettingsError(f"batch_seconds must be above 0, got {self.batch_seconds}")
        if len(set(self.sides)) < len(self.sides):
            raise SettingsError(f"sides must differ, got {', '.join(self.sides)}")
        if "all" in self.sides and len(self.sides) > 1:
            raise SettingsError(f"sides all stands alone: it takes every utterance, got {', '.join(self.sides)}")

    def located(self) -> Self:
        """Give the same settings with absolute local paths."""
        found = located(self, "output", "model", "tokens", "features", "manifest", "trials", "language_model")
        return found.but(compare=tuple(map(absolute, self.compare)))
