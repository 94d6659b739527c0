"""Arithmetic of published encoders, from sizes that are known without their files.

Source: tables of sizes in Hsu et al. 2021, HuBERT, arXiv 2106.07447, and Chen et al. 2022, WavLM, arXiv 2110.13900; the
convolutions before the blocks are the defaults of transformers' HubertConfig and WavLMConfig: 7 of 512 channels, 320
samples a frame.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.features.encoders.flops import gflop_per_second

_BASE: dict[str, Any] = {}
_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
_PUBLISHED = {
    "facebook/hubert-base-ls960": ("HubertConfig", _BASE),
    "facebook/hubert-large-ll60k": ("HubertConfig", _LARGE),
    "microsoft/wavlm-base": ("WavLMConfig", _BASE),
    "microsoft/wavlm-base-plus": ("WavLMConfig", _BASE),
    "microsoft/wavlm-large": ("WavLMConfig", _LARGE),
}


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """What an encoder costs and gives.

    Attributes:
        gflop_per_second: 10^9 operations for a second of audio.
        dim: Width of its layers (D).
        frames_per_second: Frames of a second of audio.
    """

    gflop_per_second: float
    dim: int
    frames_per_second: float


def encoder_shape(encoder: str, *, top_layer: int, seconds: float = 10.0, revision: str | None = None) -> EncoderShape:
    """Say what an encoder costs up to a layer.

    Args:
        encoder: Name or folder, as in extract_features; the files of those that are published here are not looked at.
        top_layer: The highest layer that is wanted.
        seconds: Length of an utterance: attention costs more in longer ones.
        revision: Of a name on a hub.

    Raises:
        EncoderError: It is no published one, and its files are not there.
    """
    if encoder in _PUBLISHED:
        import transformers

        kind, sizes = _PUBLISHED[encoder]
        network, rate = getattr(transformers, kind)(**sizes), 16_000
        dim, per_frame = int(network.hidden_size), int(network.inputs_to_logits_ratio)
    else:
        from pipeline.features.encoders.info import find, info_of

        source = find(encoder, revision)
        info = info_of(source, normalize_waveform=False)
        network, rate, dim, per_frame = source.config, info.sample_rate, info.dim, info.clock.hop_length
    return EncoderShape(
        gflop_per_second=gflop_per_second(network, top_layer=top_layer, sample_rate=rate, seconds=seconds),
        dim=dim,
        frames_per_second=rate / per_frame,
    )
