"""Which encoders there are, and what is known of one without loading its weights."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from pipeline.audio.clock import Clock
from pipeline.errors import EncoderError
from pipeline.features.encoders import bounds, files, mfcc
from pipeline.features.encoders.spectrum import SPECTRUM_HOP, SPECTRUM_WINDOW


@dataclass(frozen=True, kw_only=True)
class NetworkClass:
    """One network class of transformers.

    Attributes:
        config: Its configuration class.
        network: Its network class.
        prefix: First name of its tensors in a model with a head.
        last_norm: Whether a norm follows the last block, which belongs to no layer: ``never``, ``always``, or if
            ``do_stable_layer_norm``.
        hears: ``waveform``, or ``log_mel``: spectra joined in pairs.
        config_keys: What the network depends on in config.json besides ``loading.CONFIG_KEYS``.
        can_pad: Whether ``padding.make_padding_exact`` does what it says for this class: a test decides it.
    """

    config: str
    network: str
    prefix: str
    last_norm: Literal["never", "always", "if_stable"] = "if_stable"
    hears: Literal["waveform", "log_mel"] = "waveform"
    config_keys: tuple[str, ...] = ()
    can_pad: bool = True


_CONFORMER = ("position_embeddings_type", "rotary_embedding_base", "max_source_positions", "conv_depthwise_kernel_size")

MODELS = {
    "wav2vec2": NetworkClass(config="Wav2Vec2Config", network="Wav2Vec2Model", prefix="wav2vec2"),
    "hubert": NetworkClass(config="HubertConfig", network="HubertModel", prefix="hubert"),
    "wavlm": NetworkClass(config="WavLMConfig", network="WavLMModel", prefix="wavlm"),
    "unispeech-sat": NetworkClass(config="UniSpeechSatConfig", network="UniSpeechSatModel", prefix="unispeech_sat"),
    "data2vec-audio": NetworkClass(
        config="Data2VecAudioConfig",
        network="Data2VecAudioModel",
        prefix="data2vec_audio",
        last_norm="never",
        config_keys=("conv_pos_kernel_size",),
    ),
    "wav2vec2-conformer": NetworkClass(
        config="Wav2Vec2ConformerConfig",
        network="Wav2Vec2ConformerModel",
        prefix="wav2vec2_conformer",
        last_norm="always",
        config_keys=_CONFORMER,
    ),
    "wav2vec2-bert": NetworkClass(
        config="Wav2Vec2BertConfig",
        network="Wav2Vec2BertModel",
        prefix="wav2vec2_bert",
        last_norm="never",
        hears="log_mel",
        config_keys=(
            *_CONFORMER,
            *("left_max_position_embeddings", "right_max_position_embeddings", "feature_projection_input_dim"),
        ),
    ),
}
"""Network classes by the ``model_type`` of config.json."""

_IMPORTING = threading.Lock()

_PLAIN = {
    "wav2vec2": {"conv_pos_batch_norm", "feat_proj_layer_norm", "num_buckets", "max_bucket_distance"},
    "hubert": {"adapter_attn_dim", "num_buckets", "max_bucket_distance"},
    "wavlm": {"conv_pos_batch_norm", "feat_proj_layer_norm", "adapter_attn_dim"},
}
"""Classes that config.json alone describes where it says everything, and what their configuration has not."""

_LOG_MEL = {"num_mel_bins": 80, "stride": 2}
"""What preprocessor_config.json may leave unsaid of log-mel input."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What is known of an encoder without loading its weights.

    Attributes:
        name: Hugging Face name or folder, as given.
        model_type: A key of ``MODELS``, or one of ``mfcc.NAMES``.
        weights_sha256: Hash of the weights, of what config.json says of the network, and of the preprocessor;
            the same for a copy of the folder.
        sample_rate: Hz.
        conv_kernel: Kernel sizes of the convolutions before the blocks; for log-mel input those of the spectra
            and of their pairs.
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
    def clock(self) -> Clock:
        """How its frames lie on samples."""
        return Clock.of_convolutions(self.sample_rate, self.conv_kernel, self.conv_stride)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return self.clock.hop_length

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the convolutions hears, and the fewest that give a frame."""
        return self.clock.receptive_field

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.clock.frame_rate


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


@dataclass(frozen=True, kw_only=True)
class FoundEncoder:
    """Where an encoder is, and what its config.json says.

    Attributes:
        name: As given.
        folder: Its folder on this machine; None for ``mfcc`` by name.
        config: A configuration of transformers; None for ``mfcc``.
    """

    name: str
    folder: Path | None
    config: Any


def find(name_or_dir: str, revision: str | None = None) -> FoundEncoder:
    """Find an encoder and read its config.json.

    Args:
        name_or_dir: ``mfcc``, local folder, ``s3://`` folder, or Hugging Face name.
        revision: Git revision of a Hugging Face name.

    Raises:
        EncoderError: It cannot be found, or is of another kind.
    """
    if name_or_dir in mfcc.NAMES:
        if revision is not None:
            raise EncoderError(f"revision {revision!r} applies to Hugging Face names, and {name_or_dir} has no files")
        return FoundEncoder(name=name_or_dir, folder=None, config=None)
    folder = files.local_folder(name_or_dir, revision)
    return FoundEncoder(name=name_or_dir, folder=folder, config=_read_config(folder))


def describe(
    name_or_dir: str,
    *,
    layers: Sequence[int] = (),
    revision: str | None = None,
    normalize_waveform: bool | None = None,
) -> EncoderInfo:
    """Describe an encoder from its files, without loading its weights into memory.

    Args:
        name_or_dir: ``mfcc``, local folder, ``s3://`` folder, or Hugging Face name.
        layers: Layers that it must have; none is no demand.
        revision: Git revision of a Hugging Face name.
        normalize_waveform: Overrides what ``preprocessor_config.json`` says; needed where there is no such file.

    Raises:
        EncoderError: It cannot be found, is of another kind, or has not these layers.
    """
    if name_or_dir in mfcc.NAMES:
        source = find(name_or_dir, revision)
    else:
        folder = files.local_folder(name_or_dir, revision)
        source = FoundEncoder(name=name_or_dir, folder=folder, config=_plain_config(folder) or _read_config(folder))
    info = info_of(source, normalize_waveform)
    if layers:
        check_layers(layers, info.num_layers, name_or_dir)
    return info


def encoder_files(name_or_dir: str, *, revision: str | None = None) -> dict[str, bytes]:
    """Read the files of an encoder, so that a copy of it can be written elsewhere.

    Returns:
        Contents by file name; a folder of exactly these has the same ``weights_sha256``. For ``mfcc`` a config.json
        that names it.

    Raises:
        EncoderError: It cannot be found, or its weights are not there.
    """
    if name_or_dir in mfcc.NAMES:
        return {files.CONFIG: json.dumps({"model_type": name_or_dir}).encode()}
    folder = files.local_folder(name_or_dir, revision)
    if (folder / files.CONFIG).is_file() and _model_type(folder) in mfcc.NAMES:
        return {files.CONFIG: (folder / files.CONFIG).read_bytes()}
    return {path.name: path.read_bytes() for path in files.folder_files(folder)}


def _model_type(folder: Path) -> Any:
    return files.read_json(folder / files.CONFIG).get("model_type")


def _plain_config(folder: Path) -> Any:
    """Read config.json as it is, where no default is missing in it; None where transformers must fill some in.

    A second or two faster: transformers imports torch, which a run with nothing left to do has no use for.
    """
    found = files.read_json(folder / files.CONFIG)
    kind = found.get("model_type")
    if (
        not isinstance(kind, str)
        or kind not in _PLAIN
        or {*files.CONFIG_KEYS, *MODELS[kind].config_keys} - _PLAIN[kind] - found.keys()
    ):
        return None
    return SimpleNamespace(**_kept(found, folder))


def _read_config(folder: Path) -> Any:
    """Read config.json into the configuration class of its model_type, in which defaults are filled in."""
    found = files.read_json(folder / files.CONFIG)
    kind = found.get("model_type")
    if kind in list(mfcc.NAMES):
        return None
    if not isinstance(kind, str) or kind not in MODELS:
        raise EncoderError(
            f"{folder / files.CONFIG} is of model_type {str(kind)[:60]!r}; supported are {', '.join(sorted(MODELS))}"
        )
    # SpecAugment's mask and the adapter behind the blocks belong to no layer.
    kept = _kept(found, folder) | {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False}
    try:
        return transformers_class(MODELS[kind].config).from_dict(kept)
    except Exception as error:
        raise EncoderError(f"{folder / files.CONFIG} describes no network: {error}") from error


def _kept(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give what the network depends on, checked.

    The rest is about training, heads and history, or a favourite attention or number format, where ours are settings.
    """
    bounds.check_settings(found, str(folder / files.CONFIG))
    keys = {*files.CONFIG_KEYS, *MODELS[found["model_type"]].config_keys}
    return {key: value for key, value in found.items() if key in keys}


def transformers_class(name: str) -> Any:
    """Give a class of transformers; several threads may ask at once.

    The package replaces itself by another module when it has been imported: a thread that asks meanwhile gets the old
    one, which has no classes.
    """
    with _IMPORTING:
        import transformers

        return getattr(transformers, name)


def info_of(source: FoundEncoder, normalize_waveform: bool | None) -> EncoderInfo:
    """Describe an encoder that has been found.

    Args:
        source: What ``find`` gave.
        normalize_waveform: Overrides what ``preprocessor_config.json`` says; needed where there is no such file.

    Raises:
        EncoderError: Nothing says whether waveforms are normalised, or the weights are not there.
    """
    config, folder = source.config, source.folder
    if config is None or folder is None:
        kind = source.name if folder is None else _model_type(folder)
        return _mfcc_info(source.name, kind, bool(normalize_waveform))
    kind = MODELS[config.model_type]
    preprocessor = _preprocessor(source, needed=normalize_waveform is None and kind.hears == "waveform")
    if normalize_waveform is None:
        # transformers' feature extractor of waveforms normalises unless it is told not to; of spectra, never.
        normalize_waveform = preprocessor.get("do_normalize") is not False and kind.hears == "waveform"
    kernels, strides = _clock(source, preprocessor)
    check_folder(folder, config)
    return EncoderInfo(
        name=source.name,
        model_type=config.model_type,
        weights_sha256=files.weights_sha256(
            folder,
            config,
            preprocessor,
            config_keys=kind.config_keys,
            preprocessor_keys=tuple(_LOG_MEL) if kind.hears == "log_mel" else (),
        ),
        sample_rate=preprocessor.get("sampling_rate") or 16_000,
        conv_kernel=kernels,
        conv_stride=strides,
        num_layers=config.num_hidden_layers,
        dim=config.hidden_size,
        can_pad=kind.can_pad,
        normalize_waveform=normalize_waveform,
    )


def check_folder(folder: Path, config: Any) -> None:
    """Compare a configuration with the header of the weights, where they have one; others are compared when read.

    Raises:
        EncoderError: They differ, or there are no weights.
    """
    shapes = files.header_shapes(files.weight_files(folder))
    if shapes is not None:
        prefix = MODELS[config.model_type].prefix
        bounds.check_weights(config, shapes, prefix=prefix, where=str(folder / files.CONFIG))


def _preprocessor(source: FoundEncoder, *, needed: bool) -> dict[str, Any]:
    """Read preprocessor_config.json, with what it may leave unsaid of log-mel input."""
    assert source.folder is not None
    path = source.folder / files.PREPROCESSOR
    if not path.is_file() and needed:
        raise EncoderError(
            f"encoder {source.name} has no {files.PREPROCESSOR}, so nothing says whether its waveforms are "
            "normalised; say it with --normalize-waveform or --no-normalize-waveform"
        )
    found = files.read_json(path) if path.is_file() else {}
    bounds.check_preprocessor(found, str(path))
    return _LOG_MEL | found


def _clock(source: FoundEncoder, preprocessor: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the kernel sizes and strides of what comes before the blocks."""
    config = source.config
    if MODELS[config.model_type].hears == "waveform":
        return tuple(config.conv_kernel), tuple(config.conv_stride)
    bins, stride = preprocessor["num_mel_bins"], preprocessor["stride"]
    if bins * stride != config.feature_projection_input_dim:
        raise EncoderError(
            f"encoder {source.name} hears {config.feature_projection_input_dim} numbers a frame by {files.CONFIG}, "
            f"and {files.PREPROCESSOR} gives {stride} spectra of {bins}; is it the one of these weights?"
        )
    return (SPECTRUM_WINDOW, stride), (SPECTRUM_HOP, stride)


def _mfcc_info(name: str, kind: str, normalize_waveform: bool) -> EncoderInfo:
    return EncoderInfo(
        name=name,
        model_type=kind,
        weights_sha256=mfcc.recipe_sha256(kind),
        sample_rate=mfcc.RECIPE["sample_rate"],
        conv_kernel=(mfcc.RECIPE["window"],),
        conv_stride=(mfcc.RECIPE["hop_length"],),
        num_layers=0,
        dim=mfcc.DIM,
        can_pad=True,
        normalize_waveform=normalize_waveform,
    )
