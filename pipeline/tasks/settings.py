"""Settings of train_task, checked before Ray starts."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal, Self, get_args

from pipeline.errors import SettingsError
from pipeline.features.encoders.shipped import is_shipped
from pipeline.fusion.settings import FusionSettings
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.tasks.asr.settings import AsrSettings, TextSettings
from pipeline.tasks.blocks.settings import ConformerSettings, EcapaSettings
from pipeline.tasks.division import DivisionSettings
from pipeline.tasks.er.settings import ErSettings
from pipeline.tasks.sid.settings import SidSettings
from pipeline.tasks.tts.settings import TtsSettings
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together

TaskName = Literal["asr", "sid", "er", "se", "tts"]


@dataclass(frozen=True, kw_only=True)
class TaskDataSettings(Settings):
    """What a task learns from."""

    manifest: str
    """Manifest with the labels, local or s3://."""
    tokens: str | None = None
    """Tokens dataset made from that manifest."""
    features: str | None = None
    """Features dataset of every frame made from that manifest, instead of tokens: the continuous baseline."""
    codebooks: str | None = None
    """Codebooks that the tokens were made with, for --embedding-init centroids; or encoder-small, those that ship."""
    layers: tuple[int, ...] = ()
    """Layers to fuse; default: all of the dataset."""
    clean_tokens: str | None = None
    """For se: tokens of the clean recordings that clean_uri names, of the same encoder and codebooks."""
    clean_manifest: str | None = None
    """For se: manifest of the clean recordings."""
    target_layers: tuple[int, ...] = ()
    """For se: layers of the clean tokens that are predicted; default: those that are fused."""
    crop_seconds: float | None = None
    """Random crop of each utterance in training, seconds; default: 3 for sid, whole utterances for the others."""
    max_seconds: float = 40.0
    """Longer utterances are left out, where an utterance must be whole; the report counts them."""
    min_frames: int = 5
    """Utterances of fewer frames are left out; the report counts them."""
    batch_seconds: float = 60.0
    """Audio in one micro-batch at most, seconds: what a worker's memory holds."""
    shuffle_hours: float = 50.0
    """Hours of audio among which utterances are shuffled and sorted by length."""
    valid_minutes: float = 30.0
    """Audio that validation is computed on at most, minutes."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.features is None):
            raise SettingsError("give --tokens, or --features for the continuous baseline; one of the two")
        for name in ("layers", "target_layers"):
            layers = getattr(self, name)
            if len(set(layers)) < len(layers) or any(layer < 0 for layer in layers):
                raise SettingsError(f"{name} must be different numbers from 0 on, got {layers}")
        for name in ("max_seconds", "batch_seconds", "shuffle_hours", "valid_minutes"):
            if not 0 < getattr(self, name) < inf:
                raise SettingsError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if self.crop_seconds is not None and not self.crop_seconds > 0:
            raise SettingsError(f"crop_seconds must be above 0, got {self.crop_seconds}")
        if self.min_frames < 1:
            raise SettingsError(f"min_frames must be at least 1, got {self.min_frames}")


@dataclass(frozen=True, kw_only=True)
class TrainTaskConfig(Settings):
    """Settings of train_task."""

    task: TaskName
    """Task: asr is recognition by CTC, sid is who speaks, er is which emotion, se is clean tokens of noisy ones, tts is
    text to speech."""
    output: str
    """Folder of the trained task, local or s3://."""
    data: TaskDataSettings
    """What is learned from."""
    training: TrainingSettings
    """How long, and where."""
    division: DivisionSettings = field(default_factory=DivisionSettings)
    """Which utterances are trained on, and which are held out."""
    fusing: FusionSettings = field(default_factory=FusionSettings)
    """How layers become one sequence."""
    asr: AsrSettings = field(default_factory=AsrSettings)
    """Sizes of the recogniser."""
    text: TextSettings = field(default_factory=TextSettings)
    """What transcripts are made of, for asr and tts."""
    ecapa: EcapaSettings = field(default_factory=EcapaSettings)
    """Sizes of the ECAPA-TDNN of sid and er."""
    sid: SidSettings = field(default_factory=SidSettings)
    """The loss of sid."""
    er: ErSettings = field(default_factory=ErSettings)
    """The loss of er."""
    conformer: ConformerSettings = field(default_factory=ConformerSettings)
    """Sizes of the Conformer of se."""
    tts: TtsSettings = field(default_factory=TtsSettings)
    """The network of tts."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """How weights are updated."""

    def __post_init__(self) -> None:
        if self.task not in get_args(TaskName):
            raise SettingsError(f"task must be one of {', '.join(get_args(TaskName))}, got {self.task!r}")
        self._check_clean()
        self._check_spoken()
        check_together(self.training, self.optimizer)

    def _check_clean(self) -> None:
        data = self.data
        if self.task == "se" and (data.clean_tokens is None or data.clean_manifest is None):
            raise SettingsError("se needs --clean-tokens and --clean-manifest: the recordings that clean_uri names")
        if self.task != "se" and (data.clean_tokens or data.clean_manifest or data.target_layers):
            raise SettingsError(
                f"clean_tokens, clean_manifest and target_layers are settings of se, and the task is {self.task}"
            )

    def _check_spoken(self) -> None:
        if self.task == "tts" and self.text.units == "bpe":
            raise SettingsError("tts reads characters or phones; units bpe is for asr")
        if self.task == "asr" and self.text.units == "phones":
            raise SettingsError("asr writes characters or bpe; units phones is for tts")
        if self.task == "tts" and self.data.tokens is None:
            raise SettingsError("tts writes tokens: give --tokens, not --features")
        if self.task == "tts" and self.data.crop_seconds is not None:
            raise SettingsError("crop_seconds is no setting of tts, which learns whole texts with all of their frames")
        if self.task == "tts" and self.tts.stream_pattern == "delay" and self.fusing.fusion == "single":
            raise SettingsError("with stream_pattern delay the first steps lack later layers: take another fusion")
        if self.task != "tts" and self.tts != TtsSettings():
            raise SettingsError(f"the settings of the network of tts are set, and the task is {self.task}")

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        books = () if self.data.codebooks is None or is_shipped(self.data.codebooks) else ("codebooks",)
        clean = ("clean_tokens", "clean_manifest")
        return located(self, "manifest", "tokens", "features", "output", "fuser", *clean, *books)
