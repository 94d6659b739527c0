"""Magnitude and mel spectra of a waveform, in blocks of frames, so that long utterances take bounded memory.

Frames are centred: frame t is the window around sample t x hop, with zeros past the ends, so T = S // hop + 1.
All is float64. Letters: S samples, T frames, F bins of the Fourier transform, M mel bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.metrics.speech.judge import SAMPLE_RATE

Array = npt.NDArray[np.float64]

BLOCK = 1024
"""Frames that are computed at once."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """How a waveform is cut into frames.

    Attributes:
        fft_length: Points of the Fourier transform, even.
        hop_length: Samples from one frame to the next.
        window_length: Samples of the Hann window, in the middle of the transform.
    """

    fft_length: int
    hop_length: int
    window_length: int

    def count(self, num_samples: int) -> int:
        """Give T for S samples."""
        return num_samples // self.hop_length + 1


MEL_FRAMES = Frames(fft_length=1024, hop_length=256, window_length=1024)
"""Of the mel spectra here: 64 ms every 16 ms."""
MEL_BINS = 80


@cache
def window(frames: Frames) -> Array:
    """Give the periodic Hann window, zeros around it up to the length of the transform (F',)."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frames.window_length) / frames.window_length)
    before = (frames.fft_length - frames.window_length) // 2
    return np.pad(hann, (before, frames.fft_length - frames.window_length - before))


def magnitudes(waveform: npt.NDArray[np.floating], frames: Frames) -> Iterator[Array]:
    """Give the magnitude spectra of all frames.

    Args:
        waveform: (S,).
        frames: How it is cut.

    Yields:
        Blocks (at most 1024, F) that make (T, F) together, F = fft_length // 2 + 1.
    """
    half, hop = frames.fft_length // 2, frames.hop_length
    total = frames.count(len(waveform))
    for first in range(0, total, BLOCK):
        last = min(first + BLOCK, total)
        begin, end = first * hop - half, (last - 1) * hop + half
        piece = waveform[max(0, begin) : min(len(waveform), end)].astype(np.float64)
        piece = np.pad(piece, (max(0, -begin), max(0, end - max(len(waveform), begin))))
        cut = np.lib.stride_tricks.sliding_window_view(piece, frames.fft_length)[::hop]
        yield np.abs(np.fft.rfft(cut * window(frames)))


@cache
def mel_filters(frames: Frames = MEL_FRAMES, num_bins: int = MEL_BINS) -> Array:
    """Give the triangular filters of Slaney's mel scale, each of area 1, from 0 Hz to 8 kHz: (F, M)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=frames.fft_length // 2 + 1,
        num_mel_filters=num_bins,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.asarray(filters, np.float64)
