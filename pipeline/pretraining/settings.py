"""Settings of pretraining, checked before Ray starts."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from pipeline.batches.augment import AugmentSettings
from pipeline.errors import SettingsError
from pipeline.pretraining.export import WeightsDtype
from pipeline.pretraining.shapes import SHAPES
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together


@dataclass(frozen=True, kw_only=True)
class MaskingSettings(AugmentSettings):
    """What is learned from, and what is masked in it."""

    shape: Literal["small", "base", "large"] = "base"
    """Shape of the HuBERT to train; small is the one that ships."""
    init_encoder: str | None = None
    """HuBERT whose shape and weights training begins with: a Hugging Face name, a local folder, or s3:// folder."""
    init_revision: str | None = None
    """Git revision of a Hugging Face name, to pin it."""
    head: Literal["cosine", "linear"] = "cosine"
    """What predicts tokens from the last layer: cosines with token embeddings as HuBERT, or a linear layer."""
    mask_probability: float = 0.65
    """Share of a crop's frames that its masked spans would cover if none overlapped."""
    mask_length: int = 10
    """Frames of a masked span."""
    unmasked_weight: float = 0.0
    """Weight of the loss on frames that are not masked; that on masked ones has 1."""
    crop_seconds: float = 15.6
    """Longest crop of an utterance, seconds."""
    min_frames: int = 10
    """Utterances of fewer frames are left out; the report counts them."""
    shuffle_hours: float = 8.0
    """Hours of audio among which utterances are shuffled and sorted by length."""
    valid_fraction: float = 0.01
    """Share of the utterances, chosen by hash, that is kept for validation."""
    valid_minutes: float = 10.0
    """Audio that validation is computed on at most, minutes."""
    dropout: float = 0.1
    """Dropout of activations, of attention, and after the stem."""
    layerdrop: float = 0.0
    """Share of the blocks that are skipped at random."""
    normalize_waveform: bool = True
    """Normalise each utterance to zero mean and unit variance; stays in preprocessor_config.json."""
    weights_dtype: WeightsDtype = "float32"
    """Number format of the weights in the encoder's folder."""
    batch_seconds: float = 87.5
    """Audio in one micro-batch at most, seconds: what a worker's memory holds."""
    cache_gb: float = 1.0
    """Decoded audio that a worker keeps in memory, GB."""

    def check_masking(self) -> None:
        """Refuse values out of range.

        Raises:
            SettingsError: One is.
        """
        self.check_augmentation()
        if self.shape not in SHAPES:
            raise SettingsError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        for name in ("dropout", "layerdrop", "valid_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 < self.mask_probability <= 1:
            raise SettingsError(f"mask_probability must be above 0 and at most 1, got {self.mask_probability}")
        for name, least in (("mask_length", 1), ("min_frames", 2), ("unmasked_weight", 0), ("cache_gb", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("crop_seconds", "shuffle_hours", "valid_minutes", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.init_revision is not None and self.init_encoder is None:
            raise SettingsError("init_revision pins init_encoder, which is not given")


@dataclass(frozen=True, kw_only=True)
class PretrainEncoderConfig(MaskingSettings):
    """Settings of pretrain_encoder."""

    training: Annotated[TrainingSettings, tyro.conf.OmitArgPrefixes]
    """How long, and where."""
    optimizer: Annotated[OptimizerSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=OptimizerSettings)
    """How weights are updated."""
    manifest: str
    """Manifest of the audio, local or s3://."""
    tokens: str
    """Tokens dataset made from that manifest: the targets."""
    output: str
    """Folder of the encoder, local or s3://."""
    targets: tuple[str, ...] = ()
    """Columns of the tokens to predict, as layer_07; default: all."""

    def __post_init__(self) -> None:
        self.check_masking()
        check_together(self.training, self.optimizer)
