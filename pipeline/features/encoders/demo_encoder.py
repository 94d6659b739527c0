"""A small HuBERT with random weights, made on the spot: lets everything be tried without a download.

It has learned nothing: its tokens have the right shapes and repeat exactly, and serve no speech task.
"""

import json
from pathlib import Path

from pipeline.features.encoders.files import CONFIG, PREPROCESSOR
from pipeline.store.storage import open_store


def build_small_encoder(
    folder: str | Path,
    *,
    seed: int = 0,
    hidden_size: int = 192,
    num_layers: int = 6,
    num_heads: int = 4,
    conv_size: int = 128,
) -> None:
    """Write a small random HuBERT; the same bytes for the same arguments and library versions.

    Args:
        folder: Local or ``s3://`` folder; files there are replaced.
        seed: Seed of the weights.
        hidden_size: D.
        num_layers: Blocks.
        num_heads: Attention heads; D must be a multiple of them and of 16.
        conv_size: Channels of the 7 convolutions before the blocks.
    """
    import torch
    from safetensors.torch import save
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        conv_dim=[conv_size] * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        mask_time_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HubertModel(config)
    preprocessor = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000}
    store = open_store(str(folder))
    store.write("model.safetensors", save(network.state_dict(), metadata={"format": "pt"}))
    store.write(CONFIG, config.to_json_string().encode())
    store.write(PREPROCESSOR, (json.dumps(preprocessor, indent=2, sort_keys=True) + "\n").encode())
