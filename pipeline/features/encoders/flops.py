"""Arithmetic of an encoder's forward pass, from its configuration alone.

A multiply-add is 2 FLOP. Counted: matrix products and convolutions, with their true output lengths and the T^2 of
attention. Not counted, because they are under 1 %: norms, activations, softmax, biases, resampling, spectra.

Letters: S samples, T frames, D width of the blocks, I inner width, K kernel.
"""

from collections.abc import Callable
from typing import Any

from pipeline.audio.clock import Clock
from pipeline.errors import EncoderError
from pipeline.features.encoders.spectrum import SPECTRUM_HOP, SPECTRUM_WINDOW

_PAIRED_SPECTRA = Clock.of_convolutions(16_000, (SPECTRUM_WINDOW, 2), (SPECTRUM_HOP, 2))
_GATE_WIDTH = 8
"""Columns of WavLM's gate for each head: two groups of four."""


def encoder_gflop(config: Any, *, top_layer: int, num_samples: int) -> float:
    """Count the GFLOP of encoding one utterance up to a layer.

    Args:
        config: A configuration of transformers, of a class in ``encoder_info.MODELS``; None for ``mfcc``.
        top_layer: The highest layer wanted, 0 to the number of blocks: the network is cut after it.
        num_samples: S, at the encoder's rate.

    Returns:
        10^9 floating point operations; 0 when there is no frame.

    Raises:
        EncoderError: The class is unknown.
    """
    if config is None:
        # 39 numbers from a transform of 512 points: 0.02 GFLOP an hour.
        return 0.0
    if config.model_type == "wav2vec2-bert":
        frames = _PAIRED_SPECTRA.num_frames(num_samples)
        stem = 2 * frames * config.feature_projection_input_dim * config.hidden_size
        return (stem + top_layer * _conformer_block(config, frames)) / 1e9 if frames else 0.0
    stem, frames = _stem(config, num_samples)
    if frames < 1:
        return 0.0
    before = stem + 2 * frames * config.conv_dim[-1] * config.hidden_size + _positions(config, frames)
    block = _BLOCKS.get(config.model_type)
    if block is None:
        raise EncoderError(f"there is no count of operations for model_type {config.model_type!r}")
    return float((before + top_layer * block(config, frames)) / 1e9)


def gflop_per_second(config: Any, *, top_layer: int, sample_rate: int = 16_000, seconds: float = 15.0) -> float:
    """Count the GFLOP for a second of audio, in utterances of a length.

    Args:
        config: As for ``encoder_gflop``.
        top_layer: The highest layer wanted.
        sample_rate: The encoder's, Hz.
        seconds: Length of an utterance: attention costs more in longer ones.
    """
    return encoder_gflop(config, top_layer=top_layer, num_samples=int(seconds * sample_rate)) / seconds


def _stem(config: Any, num_samples: int) -> tuple[int, int]:
    """Give the operations of the stem's convolutions, and the frames that leave it."""
    total, length, width = 0, num_samples, 1
    for channels, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        if length < 1:
            return 0, 0
        total += 2 * length * channels * width * kernel
        width = channels
    return total, length


def _positions(config: Any, frames: int) -> int:
    """Give the operations of the positional convolution, or convolutions, before the blocks."""
    dim, kernel, groups = config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    if config.model_type == "data2vec-audio":
        kernel = config.conv_pos_kernel_size
        outputs = frames + (kernel % 2 == 0)
        return int(config.num_conv_pos_embeddings * 2 * outputs * dim * (dim // groups) * kernel)
    if config.model_type == "wav2vec2-conformer":
        # Its blocks know positions by themselves.
        return 0
    # An even kernel gives one frame more, which is thrown away.
    return int(2 * (frames + (kernel % 2 == 0)) * dim * (dim // groups) * kernel)


def _block(config: Any, frames: int) -> int:
    dim = int(config.hidden_size)
    return int(8 * frames * dim**2 + 4 * frames**2 * dim + 4 * frames * dim * config.intermediate_size)


def _gated_block(config: Any, frames: int) -> int:
    return _block(config, frames) + 2 * frames * int(config.hidden_size) * _GATE_WIDTH


def _conformer_block(config: Any, frames: int) -> int:
    """Two half steps of the inner layers around attention and a gated depthwise convolution."""
    dim = int(config.hidden_size)
    attention = 8 * frames * dim**2 + 4 * frames**2 * dim
    if config.position_embeddings_type == "relative":
        attention += 2 * (2 * frames - 1) * dim**2 + 2 * frames * (2 * frames - 1) * dim
    elif config.position_embeddings_type == "relative_key":
        attention += 2 * frames**2 * dim
    convolution = 6 * frames * dim**2 + 2 * frames * dim * config.conv_depthwise_kernel_size
    return int(attention + convolution + 8 * frames * dim * config.intermediate_size)


_BLOCKS: dict[str, Callable[[Any, int], int]] = {
    "wav2vec2": _block,
    "hubert": _block,
    "data2vec-audio": _block,
    "unispeech-sat": _block,
    "wavlm": _gated_block,
    "wav2vec2-conformer": _conformer_block,
}
