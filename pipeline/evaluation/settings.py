"""Settings of evaluate, checked before anything is read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import absolute, located
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.vocoder.shipped import is_shipped

NAMED = ("all", "each", "lower", "upper")
"""Sets of layers that have a name; ``each`` is every layer alone."""
REFERENCE = "reference"
"""What recordings as they should be are called."""


@dataclass(frozen=True, kw_only=True)
class RecordedSettings(Settings):
    """Recordings that are judged as they are."""

    recorded: tuple[str, ...] = ()
    """Manifests of speech to judge side by side instead, as out/noisy/_manifest out/speech/_manifest; each is compared
    with the first."""
    reference: str | None = None
    """For --recorded: manifest of the recordings as they should be, found by utterance id; without it judges that
    compare have nothing to say."""
    names: tuple[str, ...] = ()
    """For --recorded: what each is called; default: its folder's name."""

    def __post_init__(self) -> None:
        if not self.recorded and (self.reference is not None or self.names):
            raise SettingsError("reference and names go with --recorded, the manifests of speech to judge")
        if self.names and len(self.names) != len(self.recorded):
            raise SettingsError(f"names must be one for each of --recorded, got {len(self.names)}")
        if twice := sorted(name for name, count in Counter(self.called).items() if count > 1):
            raise SettingsError(f"two of --recorded are called {twice[0]}; give each a name of its own with --names")
        if REFERENCE in self.called:
            raise SettingsError(f"the name {REFERENCE} is that of --reference; call it something else with --names")

    @property
    def called(self) -> tuple[str, ...]:
        """What each manifest is called: its name, or that of its folder, ``out/speech`` of ``out/speech/_manifest``."""
        parts = [[part for part in uri.split("/") if part and part != "_manifest"] for uri in self.recorded]
        return self.names or tuple(part[-1] if part else uri for part, uri in zip(parts, self.recorded, strict=True))


@dataclass(frozen=True, kw_only=True)
class SpeechSettings(Settings):
    """What a vocoder is made to say, and who judges it."""

    layer_sets: tuple[str, ...] = NAMED
    """For --vocoder: sets of layers to speak from: all, each (every layer alone), lower, upper, or layers as 2+6."""
    judges: tuple[str, ...] = ("stft", "log_mel", "mcd", "pitch", "stoi", "dnsmos", "speaker", "recogniser")
    """For --vocoder and --recorded: who judges speech; stft, log_mel and mcd need no extra, pitch, stoi, dnsmos,
    speaker and recogniser come with the extra judges, utmos needs --utmos."""
    utmos: str | None = None
    """For the judge utmos: a folder with a hubconf.py, or a repository that torch.hub downloads, as
    tarepan/SpeechMOS:v1.2.0; it is code, which runs."""
    num_utterances: int = 100
    """For --vocoder and --recorded: utterances to judge at most, the same ones for every vocoder."""
    speaker: str | None = None
    """For --vocoder: who is to speak, where the vocoder has several; default: each utterance's own speaker, of its own
    recording where speakers are vectors."""

    def __post_init__(self) -> None:
        for name in self.layer_sets:
            if name not in NAMED and not all(part.isdecimal() for part in name.split("+")):
                raise SettingsError(f"layer_sets are {', '.join(NAMED)}, or layers joined as 2+6; got {name!r}")
            if name not in NAMED and len(parts := name.split("+")) > len(set(map(int, parts))):
                raise SettingsError(f"a set of layers names each layer once, got {name}")
        for name in ("layer_sets", "judges"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{name} must be different names, at least one; got {', '.join(values) or 'none'}")
        if (self.utmos is not None) != ("utmos" in self.judges):
            raise SettingsError("the judge utmos and --utmos, where its network is, go together; give both or neither")
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
    """For --vocoder and --recorded: what is judged, and by whom."""
    recordings: RecordedSettings = field(default_factory=RecordedSettings)
    """Recordings that are judged as they are."""
    compare: tuple[str, ...] = ()
    """Finished evaluations to lay side by side in one table, instead of making one."""
    use_gpu: bool | None = None
    """Whether to compute on a GPU; default: where there is one."""

    def __post_init__(self) -> None:
        recordings = bool(self.recordings.recorded)
        if (self.model is not None) + (self.vocoder is not None) + recordings + bool(self.compare) != 1:
            raise SettingsError(
                "give --model to evaluate a trained task, --vocoder to judge a vocoder, --recorded for recordings, or "
                "--compare for several evaluations; one of them"
            )
        if self.vocoder is not None and (self.tokens is None or self.manifest is None):
            raise SettingsError("--vocoder needs --tokens and --manifest: the utterances that it is to speak")
        of_vocoder = (self.speech.layer_sets, self.speech.speaker) != (NAMED, None)
        if self.vocoder is None and (of_vocoder or (self.speech != SpeechSettings() and not recordings)):
            raise SettingsError(
                "layer_sets and speaker are settings of --vocoder; judges, utmos and num_utterances of it and of "
                "--recorded"
            )
        if recordings and (self.tokens or self.features or self.manifest or self.sides):
            raise SettingsError("--recorded takes manifests of speech alone: no tokens, features, manifest or sides")
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
        found = located(self, "output", *inputs, "reference", *vocoder)
        recorded = tuple(map(absolute, self.recordings.recorded))
        return found.but(compare=tuple(map(absolute, self.compare)), recorded=recorded, names=self.recordings.called)
