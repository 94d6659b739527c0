"""One SSL encoder: what it is, and its raw layers for a batch of waveforms.

Layer l is the raw output of block l, for every l, without a final norm; layer 0 is the input of the first block.
The network is cut after the highest layer asked for, so that nothing beyond it is loaded or computed.

Letters: B batch, S samples, T frames, L layers, D feature width. Memory of a forward pass: the activations of one
block and L (B, T, D) arrays; WavLM also holds several (B, heads, T, T) arrays, because of its position bias.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.errors import EncoderError
from pipeline.features import loading

MODELS = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
}
"""Configuration and network classes of transformers, by ``model_type``; also the prefix in models with a head."""

DTYPES = ("float32", "bfloat16")

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a waveform before dividing, as the encoders were trained."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What is known of an encoder without loading its weights.

    Attributes:
        name: Hugging Face name or folder, as given.
        model_type: ``wav2vec2``, ``hubert`` or ``wavlm``.
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
    info = _info(name_or_dir, folder, _read_config(folder), normalize_waveform)
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


def _read_config(folder: Path) -> Any:
    """Read config.json into the configuration class of its model_type, in which defaults are filled in."""
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
        return getattr(transformers, MODELS[found["model_type"]][0]).from_dict(found)
    except Exception as error:
        raise EncoderError(f"{folder / loading.CONFIG} describes no network: {error}") from error


def _info(name: str, folder: Path, config: Any, normalize_waveform: bool | None) -> EncoderInfo:
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


@dataclass(frozen=True, kw_only=True)
class PreparedBatch:
    """Waveforms on their way to the device.

    Attributes:
        waveforms: float32 (S,) each.
    """

    waveforms: list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Layers of a batch, rounded to float16.

    Attributes:
        features: float16 (L, T, D) for each utterance.
        peaks: float32 (B, L), the largest magnitude before rounding; NaN or infinite where a value is.
    """

    features: list[np.ndarray]
    peaks: np.ndarray


class SslEncoder:
    """A frozen wav2vec 2.0, HuBERT or WavLM, cut after the highest layer asked for.

    float32 results depend on batch neighbours by rounding alone: of each class and norm order, random networks of
    6 blocks of 768 gave layers that differed by 2.7e-6 at most (values to 5.7) between 3 to 8 s of speech alone
    and padded together, and 0 of 19,728 tokens (64 centroids) changed.
    bfloat16 holds weights and activations in bfloat16, the convolutions included.

    Attributes:
        info: What the encoder is; its numbers are repeated here.
        layers: Layers that ``encode`` gives, ascending.
        device: Where it computes.
        dtype: ``float32`` or ``bfloat16``.
    """

    def __init__(self, network: Any, info: EncoderInfo, *, layers: tuple[int, ...], dtype: str, device: str) -> None:
        import torch

        self.info = info
        self.name = info.name
        self.model_type = info.model_type
        self.weights_sha256 = info.weights_sha256
        self.sample_rate = info.sample_rate
        self.hop_length = info.hop_length
        self.receptive_field = info.receptive_field
        self.frame_rate = info.frame_rate
        self.num_layers = info.num_layers
        self.dim = info.dim
        self.can_pad = info.can_pad
        self.normalize_waveform = info.normalize_waveform
        self.layers = layers
        self.device = torch.device(device)
        self.dtype = dtype
        self._torch_dtype: torch.dtype = getattr(torch, dtype)
        self._network = network.to(self.device, self._torch_dtype).eval()
        self._found: dict[int, torch.Tensor] = {}
        self._lock = threading.Lock()
        self._watch()

    @classmethod
    def from_pretrained(
        cls,
        name_or_dir: str,
        *,
        layers: Sequence[int],
        dtype: str = "float32",
        device: str = "cpu",
        normalize_waveform: bool | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load an encoder.

        Args:
            name_or_dir: Local folder, ``s3://`` folder, or Hugging Face name, in Hugging Face form.
            layers: Layers to give, 0 to the number of blocks.
            dtype: ``float32`` or ``bfloat16``, of weights and activations.
            device: A torch device.
            normalize_waveform: Overrides what ``preprocessor_config.json`` says.
            revision: Git revision of a Hugging Face name.

        Raises:
            EncoderError: It cannot be found or loaded whole, or has not these layers.
        """
        if dtype not in DTYPES:
            raise EncoderError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        folder = loading.local_folder(name_or_dir, revision)
        config = _read_config(folder)
        info = _info(name_or_dir, folder, config, normalize_waveform)
        chosen = check_layers(layers, info.num_layers, name_or_dir)
        network = _load_network(folder, config, kept_blocks=chosen[-1])
        return cls(network, info, layers=chosen, dtype=dtype, device=device)

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a waveform of S samples; 0 when it is too short for one."""
        return self.info.num_frames(num_samples)

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode one batch.

        Args:
            waveforms: float32 (S,) each, in [-1, 1], at the encoder's rate, long enough for one frame; of one
                length unless ``can_pad``. They are not changed.

        Returns:
            float32 (L, T, D) for each, layers as in ``layers``.

        Raises:
            ValueError: A waveform is too short, or lengths differ where the encoder cannot be padded.
        """
        lengths = [len(waveform) for waveform in waveforms]
        if not lengths:
            return []
        if min(lengths) < self.receptive_field:
            raise ValueError(f"{min(lengths)} samples are too short for a frame, which hears {self.receptive_field}")
        if not self.can_pad and len(set(lengths)) > 1:
            raise ValueError(
                f"encoder {self.name} averages over time in its group norm, so that padding would change its "
                f"features: a batch must have one length, got {sorted(set(lengths))}"
            )
        padded_BS = np.zeros((len(lengths), max(lengths)), np.float32)
        for row, waveform in enumerate(waveforms):
            padded_BS[row, : lengths[row]] = normalized(waveform) if self.normalize_waveform else waveform
        layers_BTD = self._forward(padded_BS, lengths)
        frames = [self.num_frames(length) for length in lengths]
        return [np.stack([found[row, : frames[row]] for found in layers_BTD]) for row in range(len(lengths))]

    def prepare(self, waveforms: Sequence[np.ndarray], *, normalized: bool = False) -> PreparedBatch:
        """Do what the host can do for a batch before the device has time for it."""
        return PreparedBatch(waveforms=list(waveforms))

    def encode_half(self, batch: PreparedBatch) -> Encoded:
        """Encode a prepared batch and round it to float16."""
        found = self.encode(batch.waveforms)
        peaks = np.array([[np.abs(x).max() for x in one] for one in found], np.float32)
        with np.errstate(over="ignore"):
            return Encoded(features=[one.astype(np.float16) for one in found], peaks=peaks)

    def _forward(self, padded_BS: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
        """Give float32 (B, T, D) a layer."""
        import torch

        mask_BS = None
        if len(set(lengths)) > 1:
            mask_BS = torch.arange(padded_BS.shape[1]) < torch.tensor(lengths)[:, None]
            mask_BS = mask_BS.long().to(self.device)
        waveform_BS = torch.from_numpy(padded_BS).to(self.device, self._torch_dtype)
        # The hooks write into one dictionary, so one pass at a time.
        with self._lock, torch.inference_mode():
            self._network(waveform_BS, attention_mask=mask_BS)
            found = [self._found.pop(layer) for layer in self.layers]
            return [layer_BTD.float().cpu().numpy() for layer_BTD in found]

    def _watch(self) -> None:
        """Keep what enters block l + 1 as layer l, and what leaves the cut stack as the highest layer."""

        def keep_input(layer: int) -> Any:
            def hook(block: Any, arguments: tuple[Any, ...]) -> None:
                self._found[layer] = arguments[0]

            return hook

        def keep_output(stack: Any, arguments: tuple[Any, ...], output: Any) -> None:
            self._found[self.layers[-1]] = output.last_hidden_state

        for layer in self.layers[:-1]:
            self._network.encoder.layers[layer].register_forward_pre_hook(keep_input(layer))
        self._network.encoder.register_forward_hook(keep_output)


def _load_network(folder: Path, config: Any, *, kept_blocks: int) -> Any:
    """Build the network without the blocks past the cut, and fill it."""
    import torch
    import transformers
    from torch.nn.utils import parametrize

    num_blocks = config.num_hidden_layers
    config.num_hidden_layers = kept_blocks
    # On the meta device nothing is initialised at random only to be overwritten.
    with torch.device("meta"):
        network: Any = getattr(transformers, MODELS[config.model_type][1])(config)
    network.to_empty(device="cpu")
    state = loading.encoder_state(
        loading.read_tensors(loading.weight_files(folder)),
        list(network.state_dict()),
        prefix=config.model_type,
        kept_blocks=kept_blocks,
        num_blocks=num_blocks,
    )
    try:
        # Copied into fresh memory rather than used where it is mapped: matrix products may depend on alignment.
        network.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"the weights in {folder} do not have the shapes of config.json: {error}") from error
    convolution = network.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")
    if config.do_stable_layer_norm:
        # The norm after the last block; without it the stack gives that block's raw output.
        network.encoder.layer_norm = torch.nn.Identity()
    return network


def normalized(waveform: np.ndarray) -> np.ndarray:
    """Bring a waveform (S,) to zero mean and unit variance; mean and variance are taken in float64."""
    wide = waveform.astype(np.float64)
    scaled: np.ndarray = ((wide - wide.mean()) / np.sqrt(wide.var() + VARIANCE_FLOOR)).astype(np.float32)
    return scaled
