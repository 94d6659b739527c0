"""The whole network of an encoder folder as transformers loads it, for comparison with ours."""

import json
from pathlib import Path

import torch
import transformers

from pipeline.features.encoders.info import MODELS


def hooked_layers(folder, input_B, mask_B=None):
    """Give what enters block 0 and what leaves each block, by layer, for the input of the network."""
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    network = getattr(transformers, MODELS[kind].network).from_pretrained(folder).eval()
    found = {}

    def keep(layer):
        def hook(block, arguments, output):
            if layer == 1:
                found[0] = arguments[0]
            found[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    for index, block in enumerate(network.encoder.layers):
        block.register_forward_hook(keep(index + 1))
    with torch.inference_mode():
        network(torch.as_tensor(input_B), attention_mask=mask_B)
    return {layer: value.numpy() for layer, value in sorted(found.items())}
