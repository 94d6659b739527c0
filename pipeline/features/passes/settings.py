"""What extract_features and tokenize_corpus share: the settings of one encoder pass, and what they mean.

Both encode every shard of a manifest with the same batches, so tokens from audio equal tokens from features.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline import schema
from pipeline.audio.decode import DecodeLimits
from pipeline.audio.decode_settings import DecodeSettings
from pipeline.audio.loading import ShardLoader
from pipeline.errors import SettingsError
from pipeline.features.encoders import mfcc
from pipeline.features.encoders.info import EncoderInfo, describe
from pipeline.features.encoders.shipped import is_shipped
from pipeline.settings import Settings
from pipeline.work.worker_shape import DECODE_CPUS, Placement

logger = logging.getLogger(__name__)

DATA_VERSION = 4
GPU_BATCH_SECONDS = 30.0
"""Smaller batch budgets are remarked upon where a GPU encodes. By arithmetic, not measured: 8 s of HuBERT-base are
0.1 TFLOP, a millisecond for a GPU of 100 TFLOP/s."""


@dataclass(frozen=True, kw_only=True)
class EncodingSettings(Settings):
    """Settings of an encoder pass over a manifest."""

    layers: tuple[int, ...]
    """Encoder layers to keep: 0 is the input of the first block, l the raw output of block l."""
    encoder: str
    """Encoder: a Hugging Face name, a local folder, or s3:// folder in Hugging Face form; encoder-small, the one that
    ships; mfcc; or mfcc-cmn."""
    revision: str | None = None
    """Git revision of a Hugging Face name, to pin it."""
    normalize_waveform: bool | None = None
    """Normalise each utterance to zero mean and unit variance; default: as preprocessor_config.json says."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the encoder's arithmetic; features are float16 on disk in either case."""
    batch_seconds: float = 8.0
    """Padded seconds of audio in one batch of the encoder, at most."""
    window_seconds: float = 30.0
    """Utterances longer than this are encoded in overlapping windows of this length, seconds."""
    window_margin_seconds: float = 2.0
    """What is dropped at each end of a window in favour of its neighbour, seconds."""
    max_row_minutes: float = 30.0
    """Longer utterances are streamed by the encoder itself instead of being sent to it decoded."""
    max_utterance_seconds: float = 86_400.0
    """Longest utterance that is encoded, seconds; longer ones are rejected as too_long."""
    decoding: DecodeSettings = field(default_factory=DecodeSettings)
    """What decoding an utterance may cost."""
    threads_per_worker: int = 1
    """Compute threads of an encoder actor on CPU; part of the plan, because bits depend on it."""
    num_workers: int | None = None
    """Encoder actors; default: one a GPU, or one a thread that the CPUs have."""
    max_workers: int | None = None
    """Encoder actors up to which the pool may grow while the job runs, as an autoscaling cluster adds nodes."""
    gpus_per_worker: float | None = None
    """GPUs of an encoder actor, as 0.5 for two actors on each GPU, 0 for CPUs only; default: 1 where there are GPUs."""
    decode_cpus: float = DECODE_CPUS
    """CPUs that a decode task claims."""
    decode_resource: str | None = None
    """Ray resource that only nodes for decoding declare (ray start --resources); default: decode on any node."""
    numerics: Literal["same", "any"] = "same"
    """Whether the dataset may mix machines whose bits may differ (device, CPU type, library versions)."""

    def __post_init__(self) -> None:
        if len(set(self.layers)) != len(self.layers) or min(self.layers, default=0) < 0:
            raise SettingsError(f"layers must be distinct numbers from 0, got {list(self.layers)}")
        for name in (
            "batch_seconds",
            "window_seconds",
            "max_row_minutes",
            "max_utterance_seconds",
        ):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= 2 * self.window_margin_seconds < self.window_seconds:
            raise SettingsError(
                f"window_margin_seconds must be at least 0 and below half of window_seconds "
                f"{self.window_seconds:g}, got {self.window_margin_seconds:g}"
            )
        if self.threads_per_worker < 1:
            raise SettingsError(f"threads_per_worker must be at least 1, got {self.threads_per_worker}")
        # Built once here for its own checks, before Ray starts.
        _ = self.placement

    @property
    def limits(self) -> DecodeLimits:
        """What a recording may cost."""
        return self.decoding.limits(max_seconds=self.max_utterance_seconds)

    @property
    def placement(self) -> Placement:
        """How the stage wants to lie on the cluster."""
        return Placement(
            threads=self.threads_per_worker,
            num_workers=self.num_workers,
            max_workers=self.max_workers,
            gpus_per_worker=self.gpus_per_worker,
            decode_cpus=self.decode_cpus,
            decode_resource=self.decode_resource,
        )

    def describe(self) -> EncoderInfo:
        """Describe the encoder without loading its weights.

        Raises:
            EncoderError: It cannot be found, or has not these layers.
        """
        return describe(
            self.encoder,
            layers=self.layers,
            revision=self.revision,
            normalize_waveform=self.normalize_waveform,
        )

    def paths(self) -> tuple[str, ...]:
        """Name the settings that are local paths: the encoder may be one."""
        return ("encoder",) if _is_folder(self.encoder) and not is_shipped(self.encoder) else ()


def encoder_label(encoder: str) -> str:
    """Give an encoder's name for lineage: of a folder only its last part, because its path differs between machines."""
    return Path(encoder).name if _is_folder(encoder) else encoder


def _is_folder(encoder: str) -> bool:
    return encoder not in mfcc.NAMES and Path(encoder).exists()


def remark_small_batches(config: EncodingSettings, device: str) -> None:
    """Say so when a GPU would get batches that are made for a CPU's cache; the plan keeps them all the same."""
    if device.startswith("cuda") and config.batch_seconds < GPU_BATCH_SECONDS:
        logger.warning(
            "--batch-seconds %g suits CPUs; a GPU will wait more than it computes: try 120, or see --estimate",
            config.batch_seconds,
        )


def encoding_content(config: EncodingSettings, encoder: EncoderInfo, input_sha256: str) -> dict[str, Any]:
    """Give the content key of an encoder pass: everything its features depend on."""
    return {
        "encoding_version": DATA_VERSION,
        "input_sha256": input_sha256,
        "encoder_sha256": encoder.weights_sha256,
        "layers": sorted(config.layers),
        "normalize_waveform": encoder.normalize_waveform,
        "dtype": config.dtype,
        "batch_seconds": config.batch_seconds,
        "window_seconds": config.window_seconds,
        "window_margin_seconds": config.window_margin_seconds,
        "max_row_minutes": config.max_row_minutes,
        "max_utterance_seconds": config.max_utterance_seconds,
        "decode_timeout_seconds": config.decoding.decode_timeout_seconds,
        "decode_memory_gb": config.decoding.decode_memory_gb,
        "threads_per_worker": config.threads_per_worker,
    }


def encoding_lineage(config: EncodingSettings, encoder: EncoderInfo, input_sha256: str) -> dict[str, Any]:
    """Give what readers need to know of an encoder pass; it goes into every footer."""
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "input_sha256": input_sha256,
        "encoder": encoder_label(config.encoder),
        "encoder_sha256": encoder.weights_sha256,
        "layers": sorted(config.layers),
        "dim": encoder.dim,
        "sample_rate": encoder.sample_rate,
        "hop_length": encoder.hop_length,
        "receptive_field": encoder.receptive_field,
        "frame_rate": encoder.frame_rate,
        "normalize_waveform": encoder.normalize_waveform,
        "dtype": config.dtype,
    }


def shard_loader(config: EncodingSettings, manifest: str, encoder: EncoderInfo) -> ShardLoader:
    """Give what decodes the shards of a manifest for this encoder."""
    return ShardLoader(
        manifest=manifest,
        sample_rate=encoder.sample_rate,
        limits=config.limits,
        max_row_seconds=60 * config.max_row_minutes,
    )
