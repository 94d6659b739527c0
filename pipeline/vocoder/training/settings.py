"""Settings of train_vocoder, checked before Ray starts."""

from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.errors import SettingsError
from pipeline.features.encoders.shipped import is_shipped
from pipeline.fusion.settings import FusionSettings
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together
from pipeline.vocoder.saved import Dtype
from pipeline.vocoder.settings import VocoderLossSettings, VocoderSettings
from pipeline.vocoder.speaker_vectors import check_width

LONGEST_SECONDS = 60.0
"""Utterances come in pieces of at most this, so no crop is longer."""


@dataclass(frozen=True, kw_only=True)
class VocoderDataSettings(Settings):
    """What a vocoder learns from."""

    manifest: str
    """Manifest of the recordings, local or s3://."""
    tokens: str
    """Tokens dataset made from that manifest."""
    codebooks: str | None = None
    """Codebooks that the tokens were made with, for --embedding-init centroids; or encoder-small, those that ship."""
    layers: tuple[int, ...] = ()
    """Layers that the vocoder speaks; one makes a single-layer vocoder; default: all of the dataset."""
    splits: tuple[str, ...] = ()
    """Values of the split column that are used; default: every utterance."""
    valid_fraction: float = 0.02
    """Share of the utterances, chosen by hash, that is kept for validation."""
    test_fraction: float = 0.05
    """Share of the utterances, chosen by hash, that is kept for tests."""
    split_seed: int = 0
    """Seed of which utterances are held out: its own, so that trainings of several seeds are judged on the same."""
    crop_seconds: float = 1.0
    """Random crop of each utterance in training, seconds, cut at a frame; shorter utterances are padded and masked."""
    batch_seconds: float = 16.0
    """Audio in one micro-batch at most, seconds: what a worker's memory holds."""
    min_frames: int = 10
    """Utterances of fewer frames are left out; the report counts them."""
    valid_seconds: float = 6.0
    """Longest stretch of an utterance that validation speaks, seconds."""
    valid_minutes: float = 2.0
    """Audio that validation is computed on at most, minutes, once per set of layers."""
    shuffle_hours: float = 8.0
    """Hours of audio among which utterances are shuffled and sorted by length."""
    cache_gb: float = 1.0
    """Decoded audio that a worker keeps in memory, GB."""

    def __post_init__(self) -> None:
        if len(set(self.layers)) < len(self.layers) or any(layer < 0 for layer in self.layers):
            raise SettingsError(f"layers must be different numbers from 0 on, got {self.layers}")
        for name in ("valid_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.valid_fraction + self.test_fraction >= 1:
            raise SettingsError(
                "valid_fraction and test_fraction leave nothing to train on; they must be below 1 together"
            )
        for name in ("crop_seconds", "valid_seconds"):
            if not 0 < getattr(self, name) <= LONGEST_SECONDS:
                raise SettingsError(
                    f"{name} must be above 0 and at most {LONGEST_SECONDS:g}, got {getattr(self, name)}"
                )
        for name in ("batch_seconds", "valid_minutes", "shuffle_hours"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.min_frames < 1:
            raise SettingsError(f"min_frames must be at least 1, got {self.min_frames}")
        if self.cache_gb < 0:
            raise SettingsError(f"cache_gb must not be below 0, got {self.cache_gb}")

    def learned_from(self) -> dict[str, Any]:
        """Give the settings of the data that weights depend on, beside the datasets themselves."""
        names = (
            *("splits", "valid_fraction", "test_fraction", "split_seed", "crop_seconds", "batch_seconds", "min_frames"),
            *("valid_seconds", "valid_minutes", "shuffle_hours"),
        )
        values = {name: getattr(self, name) for name in names}
        return {**values, "splits": list(self.splits)}


def _optimizer() -> OptimizerSettings:
    return OptimizerSettings(lr=5e-4, warmup_steps=200, beta1=0.8, beta2=0.99, decay="cosine", clip_norm=10.0)


@dataclass(frozen=True, kw_only=True)
class TrainVocoderConfig(Settings):
    """Settings of train_vocoder."""

    output: str
    """Folder of the vocoder, local or s3://."""
    data: VocoderDataSettings
    """What is learned from."""
    training: TrainingSettings
    """How long, and where."""
    network: VocoderSettings = field(default_factory=VocoderSettings)
    """Sizes of the vocoder."""
    fusing: FusionSettings = field(default_factory=FusionSettings)
    """How layers become one sequence."""
    losses: VocoderLossSettings = field(default_factory=VocoderLossSettings)
    """What it is trained by."""
    optimizer: OptimizerSettings = field(default_factory=_optimizer)
    """How the weights of the vocoder and of its discriminators are updated."""
    discriminator_lr: float | None = None
    """Highest learning rate of the discriminators; default: lr."""
    discriminators_from: int = 0
    """Step from which discriminators learn and judge; the spectral losses alone come before. num_steps: never."""
    ema_decay: float = 0.999
    """Decay of the average of the vocoder's weights, which is validated and saved; 0: the last weights are."""
    weights_dtype: Dtype = "float32"
    """Number format of the weights in the vocoder's folder."""

    def __post_init__(self) -> None:
        if self.network.speaker_input == "vector":
            check_width(self.network.speaker_dim)
        if self.discriminators_from < 0:
            raise SettingsError(f"discriminators_from must be at least 0, got {self.discriminators_from}")
        if not 0 <= self.ema_decay < 1:
            raise SettingsError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.discriminator_lr is not None and not self.discriminator_lr > 0:
            raise SettingsError(f"discriminator_lr must be above 0, got {self.discriminator_lr}")
        if self.weights_dtype not in ("float32", "float16"):
            raise SettingsError(f"weights_dtype must be float32 or float16, got {self.weights_dtype!r}")
        check_together(self.training, self.optimizer)

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        books = () if self.data.codebooks is None or is_shipped(self.data.codebooks) else ("codebooks",)
        return located(self, "manifest", "tokens", "output", "fuser", *books)
