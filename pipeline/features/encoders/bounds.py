"""What a config.json may say: numbers and names of the right kind, and no more than its weights bear out.

An encoder folder is not trusted. A network is as large as its config.json says, so each number is compared with the
shapes in the header of the weights before a module is built; what no weight bears out has a bound of its own.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import EncoderError

Shapes = Mapping[str, tuple[int, ...]]

MAX_POSITIONS = 65_536
"""Largest table of positions, which lies in no checkpoint: frames to each side, 22 minutes of them."""

MAX_LABELS = 1_000_000
"""Largest head: transformers makes a name for each of its labels when it reads a config.json."""

ACTIVATIONS = frozenset(
    (
        *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
        *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu"),
        *("relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "xielu"),
    )
)
"""The activations that transformers knows by name."""

_RESTORE = "Is it the one of these weights? Restore the folder, or fetch the encoder anew"
_LARGEST = 2**31 - 1
_RATES = (1_000, 768_000)
_MOST_BINS = 4_096


_FIRST = "encoder.layers.0."
_ADAPTER = f"{_FIRST}adapter_layer.linear_1.weight"
_SIZES: Mapping[str, tuple[str, ...]] = {
    "feature_projection.projection.weight": ("hidden_size",),
    f"{_FIRST}feed_forward.intermediate_dense.weight": ("intermediate_size", "hidden_size"),
    f"{_FIRST}ffn1.intermediate_dense.weight": ("intermediate_size", "hidden_size"),
    f"{_FIRST}attention.rel_attn_embed.weight": ("num_buckets", "num_attention_heads"),
    _ADAPTER: ("adapter_attn_dim", "hidden_size"),
    **dict.fromkeys(
        (
            *("encoder.pos_conv_embed.conv.weight", "encoder.pos_conv_embed.conv.weight_v"),
            "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        ),
        ("hidden_size", "", "num_conv_pos_embeddings"),
    ),
}
"""The settings that the sizes of a tensor bear out; an empty name is a size of something else."""


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _counts(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_count(each) for each in value)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


_Rule = tuple[str, Callable[[Any], bool]]
_COUNT: _Rule = (f"a whole number from 1 to {_LARGEST}", _count)
_COUNTS: _Rule = ("a list of whole numbers from 1", _counts)
_YES_OR_NO: _Rule = ("true or false", lambda value: isinstance(value, bool))
_POSITIVE: _Rule = ("a finite number above 0", _positive)
_ACTIVATION: _Rule = (
    "an activation that transformers knows, as gelu or relu",
    lambda value: isinstance(value, str) and value in ACTIVATIONS,
)
_POSITIONS: _Rule = (
    f"a whole number from 1 to {MAX_POSITIONS}",
    lambda value: _count(value) and value <= MAX_POSITIONS,
)

_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"), _COUNT),
    **dict.fromkeys(("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "conv_pos_kernel_size"), _COUNT),
    **dict.fromkeys(("num_buckets", "max_bucket_distance", "conv_depthwise_kernel_size"), _COUNT),
    "feature_projection_input_dim": _COUNT,
    **dict.fromkeys(("conv_dim", "conv_kernel", "conv_stride"), _COUNTS),
    **dict.fromkeys(("hidden_act", "feat_extract_activation"), _ACTIVATION),
    **dict.fromkeys(("conv_bias", "do_stable_layer_norm", "conv_pos_batch_norm", "feat_proj_layer_norm"), _YES_OR_NO),
    **dict.fromkeys(("layer_norm_eps", "rotary_embedding_base"), _POSITIVE),
    **dict.fromkeys(
        ("max_source_positions", "left_max_position_embeddings", "right_max_position_embeddings"), _POSITIONS
    ),
    "feat_extract_norm": ("group or layer", lambda value: value in ("group", "layer")),
    "adapter_attn_dim": (_COUNT[0], lambda value: value is None or _count(value)),
    "position_embeddings_type": (
        "relative, rotary, relative_key or null",
        lambda value: value is None or isinstance(value, str) and value in ("relative", "rotary", "relative_key"),
    ),
    "num_labels": (
        f"a whole number from 1 to {MAX_LABELS:,}",
        lambda value: value is None or _count(value) and value <= MAX_LABELS,
    ),
}


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Refuse settings of another kind, or past what any network has.

    Args:
        settings: What config.json says.
        where: The file, for the message.

    Raises:
        EncoderError: It names the setting, its value and what it may be.
    """
    for name, (wanted, holds) in _RULES.items():
        if name in settings and not holds(settings[name]):
            raise EncoderError(f"{where} says {name} {_brief(settings[name])}; it must be {wanted}. {_RESTORE}")
    lengths = {name: len(settings[name]) for name in ("conv_dim", "conv_kernel", "conv_stride") if name in settings}
    if "num_feat_extract_layers" in settings:
        lengths["num_feat_extract_layers"] = settings["num_feat_extract_layers"]
    if len(set(map(str, lengths.values()))) > 1:
        raise EncoderError(
            f"{where} says conv_dim, conv_kernel and conv_stride of unlike lengths {lengths!s:.200}. {_RESTORE}"
        )
    width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
    if width is not None and heads is not None and width % heads:
        raise EncoderError(f"{where} says hidden_size {width}, no multiple of num_attention_heads {heads}. {_RESTORE}")


def check_preprocessor(settings: Mapping[str, Any], where: str) -> None:
    """Refuse a preprocessor_config.json whose numbers cannot be.

    Raises:
        EncoderError: It names the setting, its value and what it may be.
    """
    rate = settings.get("sampling_rate")
    if rate is not None and not (_count(rate) and _RATES[0] <= rate <= _RATES[1]):
        raise EncoderError(f"{where} says sampling_rate {_brief(rate)}; it must be {_RATES[0]} to {_RATES[1]} Hz")
    for name in ("num_mel_bins", "stride"):
        value = settings.get(name, 1)
        if not (_count(value) and value <= _MOST_BINS):
            raise EncoderError(f"{where} says {name} {_brief(value)}; it must be a whole number from 1 to {_MOST_BINS}")


def check_weights(config: Any, shapes: Shapes, *, prefix: str, where: str) -> None:
    """Compare what a config.json says of the number and size of modules with the weights, before any is built.

    Args:
        config: A configuration, its settings checked.
        shapes: Shapes of the tensors in the weights, by name.
        prefix: Name of the encoder in a model with a head, as ``hubert``.
        where: The file that says it, for the message.

    Raises:
        EncoderError: It names the setting, what config.json says and what the weights have.
    """
    found = {name.removeprefix(f"{prefix}."): shape for name, shape in shapes.items()}
    for name, said, tensors in (
        ("num_hidden_layers", config.num_hidden_layers, r"encoder\.layers\.(\d{1,9})\."),
        ("conv_dim of length", len(getattr(config, "conv_dim", ())), r"feature_extractor\.conv_layers\.(\d{1,9})\."),
        ("num_conv_pos_embeddings", _stacked(config), r"encoder\.pos_conv_embed\.layers\.(\d{1,9})\."),
    ):
        number = len({match[1] for each in found if (match := re.match(tensors, each))})
        if said is not None and said != number and (number or name == "num_hidden_layers"):
            raise EncoderError(_differs(where, name, said, number))
    for tensor, names in _SIZES.items():
        for name, size in zip(names, found.get(tensor, ()), strict=False):
            if name and getattr(config, name, size) != size:
                raise EncoderError(_differs(where, name, getattr(config, name), size))
    # An encoder of spectra has settings of convolutions too, and no convolution.
    convolutions = zip(getattr(config, "conv_dim", ()), getattr(config, "conv_kernel", ()), strict=False)
    for number, sizes in enumerate(convolutions):
        shape = found.get(f"feature_extractor.conv_layers.{number}.conv.weight", ())
        for name, said, size in zip(("conv_dim", "conv_kernel"), sizes, shape[::2], strict=False):
            if said != size:
                raise EncoderError(_differs(where, f"{name}[{number}]", said, size))
    if getattr(config, "adapter_attn_dim", None) is not None and _ADAPTER not in found:
        raise EncoderError(_differs(where, "adapter_attn_dim", config.adapter_attn_dim, "no such adapter"))


def check_same_shapes(wanted: Shapes, found: Shapes, where: str) -> None:
    """Compare the tensors of a network that has no memory yet with those that are to fill it.

    Raises:
        EncoderError: It names a tensor and both shapes.
    """
    unlike = [name for name, shape in wanted.items() if tuple(found[name]) != tuple(shape)]
    if unlike:
        name = unlike[0]
        raise EncoderError(
            f"{where} asks for shapes that the weights do not have: {len(unlike)} differ, as {name} "
            f"{_brief(list(wanted[name]))} for {_brief(list(found[name]))}. {_RESTORE}"
        )


def _stacked(config: Any) -> int | None:
    """Give the number of convolutions of positions, where they are stacked."""
    return int(config.num_conv_pos_embeddings) if hasattr(config, "conv_pos_kernel_size") else None


def _differs(where: str, name: str, said: Any, found: Any) -> str:
    return f"{where} says {name} {_brief(said)}, and the weights beside it have {found}. {_RESTORE}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
