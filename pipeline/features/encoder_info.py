"""Which encoders there are, and what is known of one without loading its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import EncoderError
from pipeline.features import loading


@dataclass(frozen=True, kw_only=True)
class NetworkClass:
    """One network class of transformers.

    Attributes:
        config: Its configuration class.
        network: Its network class.
        prefix: First name of its tensors in a model with a head.
    """

    config: str
    network: str
    prefix: str


MODELS = {
    "wav2vec2": NetworkClass(config="Wav2Vec2Config", network="Wav2Vec2Model", prefix="wav2vec2"),
    "hubert": NetworkClass(config="HubertConfig", network="HubertModel", prefix="hubert"),
    "wavlm": NetworkClass(config="WavLMConfig", network="WavLMModel", prefix="wavlm"),
}
"""Network classes by the ``model_type`` of config.json."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What is known of an encoder without loading its weights.

    Attributes:
        name: Hugging Face name or folder, as given.
        model_type: A key of ``MODELS``.
        weights_sha256: Hash of the weights, of what config.json says of the network, and of the preprocessor;
            the same for a copy of the folder.
        sample_rate: Hz.
        conv_kernel: Kernel sizes of the convolutions before the blocks.
        conv_stride: Their strides.
        num_layers: Blocks of the published network; layers are 0 to this number.
        dim: D.
        can_pad: Whether waveforms of several lengths may share a batch.
        normalize_waveform: Whether each utterance is brought to zero mean and unit variance first.
    """

    name: str
    model_type: str
    weights_sha256: str
    sample_rate: int
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    num_layers: int
    dim: int
    can_pad: bool
    normalize_waveform: bool

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(np.prod(self.conv_stride))

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the convolutions hears, and the fewest that give a frame."""
        field, hop = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return field

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a waveform: floor((S - receptive_field) / hop_length) + 1, or 0 when too short."""
        return max(0, (num_samples - self.receptive_field) // self.hop_length + 1)


def check_layers(layers: Sequence[int], num_layers: int, name: str) -> tuple[int, ...]:
    """Give the layers asked for in ascending order.

    Args:
        layers: Layers, at least one.
        num_layers: Blocks of the network.
        name: The encoder, for the message.

    Raises:
        EncoderError: The network has not all of them, or one is named twice.
    """
    if not layers or len(set(layers)) != len(layers):
        raise EncoderError(f"layers must name at least one layer and none twice, got {list(layers)}")
    wrong = [layer for layer in layers if not 0 <= layer <= num_layers]
    if wrong:
        raise EncoderError(f"encoder {name} has layers 0 to {num_layers}, so not {wrong}; choose others")
    return tuple(sorted(layers))


def describe(
    name_or_dir: str,
    *,
    layers: Sequence[int] = (),
    revision: str | None = None,
    normalize_waveform: bool | None = None,
) -> EncoderInfo:
    """Describe an encoder from its files, without loading its weights into memory.

    Args:
        name_or_dir: Local folder, ``s3://`` folder, or Hugging Face name.
        layers: Layers that it must have; none is no demand.
        revision: Git revision of a Hugging Face name.
        normalize_waveform: Overrides what ``preprocessor_config.json`` says; needed where there is no such file.

    Raises:
        EncoderError: It cannot be found, is of another kind, or has not these layers.
    """
    folder = loading.local_folder(name_or_dir, revision)
    info = info_of(name_or_dir, folder, read_config(folder), normalize_waveform)
    if layers:
        check_layers(layers, info.num_layers, name_or_dir)
    return info


def encoder_files(name_or_dir: str, *, revision: str | None = None) -> dict[str, bytes]:
    """Read the files of an encoder, so that a copy of it can be written elsewhere.

    Returns:
        Contents by file name; a folder of exactly these has the same ``weights_sha256``.

    Raises:
        EncoderError: It cannot be found, or its weights are not there.
    """
    folder = loading.local_folder(name_or_dir, revision)
    return {path.name: path.read_bytes() for path in loading.folder_files(folder)}


def read_config(folder: Path) -> Any:
    """Read config.json into the configuration class of its model_type, in which defaults are filled in.

    Raises:
        EncoderError: It is absent, or describes no network of ``MODELS``.
    """
    import transformers

    found = loading.read_json(folder / loading.CONFIG)
    if found.get("model_type") not in MODELS:
        raise EncoderError(
            f"{folder / loading.CONFIG} is of model_type {found.get('model_type')!r}; "
            f"supported are {', '.join(sorted(MODELS))}"
        )
    # A checkpoint may name its favourite attention or number format; ours are settings.
    for key in ("attn_implementation", "_attn_implementation", "dtype", "torch_dtype"):
        found.pop(key, None)
    # SpecAugment's mask and the adapter behind the blocks belong to no layer.
    found |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False}
    try:
        return getattr(transformers, MODELS[found["model_type"]].config).from_dict(found)
    except Exception as error:
        raise EncoderError(f"{folder / loading.CONFIG} describes no network: {error}") from error


def info_of(name: str, folder: Path, config: Any, normalize_waveform: bool | None) -> EncoderInfo:
    """Describe the encoder of a folder whose configuration has been read.

    Args:
        name: Hugging Face name or folder, as given.
        folder: Its folder on this machine.
        config: What ``read_config`` gave.
        normalize_waveform: Overrides what ``preprocessor_config.json`` says; needed where there is no such file.

    Raises:
        EncoderError: Nothing says whether waveforms are normalised, or the weights are not there.
    """
    preprocessor: dict[str, Any] = {}
    if (folder / loading.PREPROCESSOR).is_file() or normalize_waveform is None:
        if not (folder / loading.PREPROCESSOR).is_file():
            raise EncoderError(
                f"encoder {name} has no {loading.PREPROCESSOR}, so nothing says whether its waveforms are "
                "normalised; say it with --normalize-waveform or --no-normalize-waveform"
            )
        preprocessor = loading.read_json(folder / loading.PREPROCESSOR)
    if normalize_waveform is None:
        # transformers' feature extractor normalises unless it is told not to.
        normalize_waveform = preprocessor.get("do_normalize") is not False
    return EncoderInfo(
        name=name,
        model_type=config.model_type,
        weights_sha256=loading.weights_sha256(folder, config, preprocessor),
        sample_rate=preprocessor.get("sampling_rate") or 16_000,
        conv_kernel=tuple(config.conv_kernel),
        conv_stride=tuple(config.conv_stride),
        num_layers=config.num_hidden_layers,
        dim=config.hidden_size,
        # A group norm averages over time, padding included; a batch norm turns the zeros of padding into others.
        can_pad=config.feat_extract_norm == "layer" and not getattr(config, "conv_pos_batch_norm", False),
        normalize_waveform=normalize_waveform,
    )
