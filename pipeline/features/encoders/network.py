"""The network of an encoder: built, cut after the highest layer, filled, and watched for its layers."""

from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.utils import parametrize

from pipeline.errors import EncoderError
from pipeline.features.encoders import files
from pipeline.features.encoders.attention import use_sdpa
from pipeline.features.encoders.bounds import check_same_shapes, check_weights
from pipeline.features.encoders.info import MODELS, EncoderInfo, transformers_class
from pipeline.features.encoders.log_mel import StackedLogMel
from pipeline.features.encoders.padding import ValidRows, make_padding_exact
from pipeline.features.encoders.stem import PatchMoments
from pipeline.work.narrow_convolutions import widen_narrow_convolutions


class Network:
    """A network of transformers without the blocks past the highest layer.

    Not to be called by two threads at once: the hooks that keep the layers write into one dictionary.

    Attributes:
        stem_patch: Kernel and stride of the first convolution where a group norm follows it, else None.
    """

    def __init__(
        self, network: Any, info: EncoderInfo, layers: tuple[int, ...], log_mel: StackedLogMel | None = None
    ) -> None:
        """Watch a filled network, and make padding exact in it.

        Args:
            network: Of transformers, cut after the highest layer.
            info: What it is.
            layers: Layers to give, ascending.
            log_mel: Makes its input, if it does not hear waveforms.
        """
        self._network = network.eval()
        self._layers = layers
        self._log_mel = log_mel
        self._rows = ValidRows(info.conv_kernel, info.conv_stride)
        averages = make_padding_exact(network, self._rows)
        self.stem_patch = (info.conv_kernel[0], info.conv_stride[0]) if averages else None
        self._found: dict[int, torch.Tensor] = {}
        self._dtype = torch.float32
        self._watch()

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move the network to a device, its weights and activations to a number format."""
        positions = getattr(self._network.encoder, "embed_positions", None)
        rotation = getattr(positions, "inv_freq", None)
        self._network.to(device, dtype)
        widen_narrow_convolutions(self._network, device, dtype)
        if positions is not None and rotation is not None:
            # bfloat16 cannot count the frames past 256, so angles stay float32 whatever the weights are.
            positions.inv_freq = rotation.to(device)
        if self._log_mel is not None:
            self._log_mel.to(device)
        self._dtype = dtype
        return self

    def __call__(
        self, waveform_BS: torch.Tensor, lengths: tuple[int, ...], recording: PatchMoments | None = None
    ) -> list[torch.Tensor]:
        """Compute one batch.

        Args:
            waveform_BS: float32 on the network's device, zero past the end of each waveform.
            lengths: Samples of each waveform.
            recording: What the stem hears of the recording of which the waveforms are windows, for a group norm.

        Returns:
            (B, T, D) for each layer, in the network's number format; frames past the end of a waveform are of no use.
        """
        self._rows.set(lengths, waveform_BS.device, recording)
        input_B, mask_B = self._input(waveform_BS, lengths)
        self._network(input_B.to(self._dtype), attention_mask=mask_B)
        return [self._found.pop(layer) for layer in self._layers]

    def _input(self, waveform_BS: torch.Tensor, lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give the network's input and, where rows are padded, the mask of what is valid in it."""
        padded = len(set(lengths)) > 1
        if self._log_mel is not None:
            frames_BTM, valid_BT = self._log_mel(waveform_BS, lengths)
            return frames_BTM, valid_BT if padded else None
        if not padded:
            return waveform_BS, None
        mask_BS = torch.arange(waveform_BS.shape[1]) < torch.tensor(lengths)[:, None]
        return waveform_BS, mask_BS.long().to(waveform_BS.device)

    def _watch(self) -> None:
        """Keep what enters block l + 1 as layer l, and what leaves the cut stack as the highest layer."""

        def keep_input(layer: int) -> Any:
            def hook(block: Any, arguments: tuple[Any, ...]) -> None:
                self._found[layer] = arguments[0]

            return hook

        def keep_output(stack: Any, arguments: tuple[Any, ...], output: Any) -> None:
            self._found[self._layers[-1]] = output.last_hidden_state

        for layer in self._layers[:-1]:
            self._network.encoder.layers[layer].register_forward_pre_hook(keep_input(layer))
        self._network.encoder.register_forward_hook(keep_output)


def load_network(folder: Path, config: Any, info: EncoderInfo, layers: tuple[int, ...]) -> Network:
    """Build the network without the blocks past the highest layer, and fill it.

    Args:
        folder: The encoder folder.
        config: Its configuration; the number of blocks in it is changed to those kept.
        info: What it is.
        layers: Layers to give, ascending.

    Raises:
        EncoderError: The weights are damaged, or do not fit the network.
    """
    kind, where = MODELS[config.model_type], str(folder / files.CONFIG)
    tensors = files.read_tensors(files.weight_files(folder))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_weights(config, shapes, prefix=kind.prefix, where=where)
    num_blocks, config.num_hidden_layers = config.num_hidden_layers, layers[-1]
    network = _built(kind.network, config, where)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    state = files.encoder_state(
        tensors, list(wanted), prefix=kind.prefix, kept_blocks=layers[-1], num_blocks=num_blocks
    )
    check_same_shapes(wanted, {name: tuple(tensor.shape) for name, tensor in state.items()}, where)
    network.to_empty(device="cpu")
    positions = getattr(network.encoder, "embed_positions", None)
    if positions is not None:
        # Made anew, because its tables are in no checkpoint.
        network.encoder.embed_positions = type(positions)(config)
    try:
        # Copied into fresh memory rather than used where it is mapped: matrix products may depend on alignment.
        network.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"the weights in {folder} do not have the shapes of config.json: {error}") from error
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    if kind.last_norm == "always" or (kind.last_norm == "if_stable" and config.do_stable_layer_norm):
        # The norm after the last block; without it the stack gives that block's raw output.
        network.encoder.layer_norm = torch.nn.Identity()
    use_sdpa(network)
    log_mel = None
    if kind.hears == "log_mel":
        stride = info.conv_stride[-1]
        bins = config.feature_projection_input_dim // stride
        log_mel = StackedLogMel(num_mel_bins=bins, stride=stride, sample_rate=info.sample_rate)
    return Network(network, info, layers, log_mel)


def _built(name: str, config: Any, where: str) -> Any:
    """Build a network without memory: on the meta device nothing is initialised only to be overwritten."""
    try:
        with torch.device("meta"):
            return transformers_class(name)(config)
    except Exception as error:
        raise EncoderError(
            f"{where} describes no network that can be built ({type(error).__name__}: {error}); restore it"
        ) from error
