"""The network of an encoder: built, cut after the highest layer, filled, and watched for its layers."""

from pathlib import Path
from typing import Any, Self

import torch
import transformers
from torch.nn.utils import parametrize

from pipeline.errors import EncoderError
from pipeline.features import loading
from pipeline.features.encoder_info import MODELS


class Network:
    """A network of transformers without the blocks past the highest layer.

    Not to be called by two threads at once: the hooks that keep the layers write into one dictionary.
    """

    def __init__(self, network: Any, layers: tuple[int, ...]) -> None:
        self._network = network.eval()
        self._layers = layers
        self._found: dict[int, torch.Tensor] = {}
        self._dtype = torch.float32
        self._watch()

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move the network to a device, its weights and activations to a number format."""
        self._network.to(device, dtype)
        self._dtype = dtype
        return self

    def __call__(self, waveform_BS: torch.Tensor, lengths: tuple[int, ...]) -> list[torch.Tensor]:
        """Compute one batch.

        Args:
            waveform_BS: float32 on the network's device, zero past the end of each waveform.
            lengths: Samples of each waveform.

        Returns:
            (B, T, D) for each layer, in the network's number format; frames past the end of a waveform are of no use.
        """
        mask_BS = None
        if len(set(lengths)) > 1:
            mask_BS = torch.arange(waveform_BS.shape[1]) < torch.tensor(lengths)[:, None]
            mask_BS = mask_BS.long().to(waveform_BS.device)
        self._network(waveform_BS.to(self._dtype), attention_mask=mask_BS)
        return [self._found.pop(layer) for layer in self._layers]

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


def load_network(folder: Path, config: Any, layers: tuple[int, ...]) -> Network:
    """Build the network without the blocks past the highest layer, and fill it.

    Args:
        folder: The encoder folder.
        config: Its configuration; the number of blocks in it is changed to those kept.
        layers: Layers to give, ascending.

    Raises:
        EncoderError: The weights are damaged, or do not fit the network.
    """
    num_blocks, config.num_hidden_layers = config.num_hidden_layers, layers[-1]
    # On the meta device nothing is initialised at random only to be overwritten.
    with torch.device("meta"):
        network: Any = getattr(transformers, MODELS[config.model_type].network)(config)
    network.to_empty(device="cpu")
    state = loading.encoder_state(
        loading.read_tensors(loading.weight_files(folder)),
        list(network.state_dict()),
        prefix=MODELS[config.model_type].prefix,
        kept_blocks=layers[-1],
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
    return Network(network, layers)
