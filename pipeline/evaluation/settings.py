"""Settings of evaluate, checked before anything is read."""

from dataclasses import dataclass, field
from typing import Self

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import absolute, located
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.vocoder.shipped import is_shipped

NAMED = ("all", "each", "lower", "upper")
"""Sets of layers that have a name; ``each`` is every layer alone."""


@dataclass(frozen=True, kw_only=True)
class SpeechSettings(Settings):
    """What a vocoder is made to say, and who judges it."""

    layer_sets: tuple[str, ...] = NAMED
    """For --vocoder: sets of layers to speak from: all, each (every layer alone), lower, upper, or layers as 2+6."""
    judges: tuple[str, ...] = ("stft", "log_mel", "mcd", "pitch", "stoi", "dnsmos", "speaker", "recogniser")
    """For --vocoder: who judges speech; stft, log_mel and mcd need no extra, the others come with the extra judges."""
    num_utterances: int = 100
    """For --vocoder: utterances to judge at most, the same ones for every vocoder."""
    speaker: str | None = None
    """For --vocoder: who is to speak, where the vocoder has several; default: each utterance's own speaker, of its own
    recording where speakers are vectors."""

    def __post_init__(self) -> None:
        for name in self.layer_sets:
            if name not in NAMED and not all(part.isdecimal() for part in name.split("+")):
                raise SettingsError(f"layer_sets are {', '.join(NAMED)}, or layers joined as 2+6; got {name!r}")
        for name in ("layer_sets", "judges"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{name} must be different names, at least one; got {', '.join(values) or 'none'}")
        if self.num_utterances < 1:
            raise SettingsError(f"num_utterances must be at least 1, got {self.num_utterances}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Settings):
    """Settings of evaluate."""

    output: str
    """Folder of the evaluation, local or s3://."""
    model: str | None = None
    """Folder of a trained task, local or s3://."""
    vocoder: str | None = None
    """Folder of a vocoder to judge instead, local or s3://, or vocoder-small; needs --tokens and --manifest."""
    tokens: str | None = None
    """Tokens dataset to evaluate on; default: that of the training."""
    features: str | None = None
    """Features dataset, for a task that was trained on features; default: that of the training."""
    manifest: str | None = None
    """Manifest that they were made from; default: that of the training."""
    clean_tokens: str | None = None
    """For se: tokens of the clean recordings; default: those of the training."""
    clean_manifest: str | None = None
    """For se: manifest of the clean recordings; default: that of the training."""
    sides: tuple[str, ...] = ()
    """Sides to evaluate: test, unseen, validation, by default all tests of the division that was trained with; or all:
    every utterance of a manifest of its own."""
    examples: int = 3
    """Utterances whose layer weights are shown over time, beside the spectrogram of their recording; with --vocoder,
    those that the page lets one hear."""
    batch_seconds: float = 60.0
    """Audio in one micro-batch at most, seconds."""
    trials: str | None = None
    """For sid: trials of verification, a file of lines "1 ID ID" (1: one speaker, 0: two), or a .csv of the same."""
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    """For asr: how transcripts are found."""
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    """For --vocoder: what is judged, and by whom."""
    compare: tuple[str, ...] = ()
    """Finished evaluations to lay side by side in one table, instead of making one."""
    use_gpu: bool | None = None
    """Whether to compute on a GPU; default: where there is one."""

    def __post_init__(self) -> None:
        if (self.model is not None) + (self.vocoder is not None) + bool(self.compare) != 1:
            raise SettingsError(
                "give --model to evaluate a trained task, --vocoder to judge a vocoder, or --compare for several "
                "evaluations; one of them"
            )
        if self.vocoder is not None and (self.tokens is None or self.manifest is None):
            raise SettingsError("--vocoder needs --tokens and --manifest: the utterances that it is to speak")
        if self.vocoder is None and self.speech != SpeechSettings():
            raise SettingsError("layer_sets, judges, num_utterances and speaker are settings of --vocoder")
        if self.tokens is not None and self.features is not None:
            raise SettingsError("give --tokens or --features, whichever the task was trained on")
        if (self.clean_tokens is None) != (self.clean_manifest is None):
            raise SettingsError("give --clean-tokens and --clean-manifest together, or neither")
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
        inputs = (
            "model",
            "tokens",
            "features",
            "manifest",
            "clean_tokens",
            "clean_manifest",
            "trials",
            "language_model",
        )
        vocoder = () if self.vocoder is None or is_shipped(self.vocoder) else ("vocoder",)
        found = located(self, "output", *inputs, *vocoder)
        return found.but(compare=tuple(map(absolute, self.compare)))
