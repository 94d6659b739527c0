"""Griffin-Lim: speech from the log-mel spectrum of the original, without a network. The baseline of every vocoder.

Magnitudes of all Fourier bins are found that have the given mel bins (least squares without negative values, by
multiplicative steps), then phases that fit them, by going back and forth between waveform and spectrum. What is lost is
phase and what 80 mel bins do not tell. The first phases are random, by a key, so the same call gives the same waveform.
Cost: two Fourier transforms per frame and iteration. Memory: 60 times the waveform.

Source: Griffin and Lim 1984, Signal estimation from modified short-time Fourier transform; Perraudin et al. 2013, A
fast Griffin-Lim algorithm, whose momentum is 0.99; Lee and Seung 2001, for the multiplicative steps.
"""

import numpy as np
import numpy.typing as npt

from pipeline.metrics.speech.judge import Waveform
from pipeline.metrics.speech.log_mel import log_mel
from pipeline.metrics.speech.spectra import MEL_FRAMES, Array, Frames, mel_filters, window
from pipeline.seeds import rng

Complex = npt.NDArray[np.complex128]

MOMENTUM = 0.99
INVERSION_STEPS = 60
"""Multiplicative steps from mel bins to Fourier bins."""
_TINY = 1e-12


def griffin_lim(reference: Waveform, *, iterations: int = 32, seed: int = 0) -> Waveform:
    """Make a waveform from nothing but the log-mel spectrum of another.

    Args:
        reference: The original (S,) at 16 kHz.
        iterations: Times that phases are made to fit, at least 1.
        seed: Of the first phases.

    Returns:
        float32 (S,).

    Raises:
        ValueError: There is no sample, or no iteration.
    """
    if not len(reference) or iterations < 1:
        raise ValueError(f"need samples and iterations, got {len(reference)} and {iterations}")
    magnitudes_TF = from_mel(np.exp(np.concatenate(list(log_mel(reference)))))
    turns = rng(seed, "griffin_lim").random(magnitudes_TF.shape)
    phases_TF: Complex = np.exp(2j * np.pi * turns)
    before_TF: Complex = np.zeros_like(phases_TF)
    for _ in range(iterations):
        rebuilt_TF = _spectrum(_waveform(magnitudes_TF * phases_TF, len(reference)))
        ahead_TF = rebuilt_TF + MOMENTUM * (rebuilt_TF - before_TF)
        phases_TF = ahead_TF / np.maximum(np.abs(ahead_TF), _TINY)
        before_TF = rebuilt_TF
    return _waveform(magnitudes_TF * phases_TF, len(reference)).astype(np.float32)


def from_mel(mel_TM: Array) -> Array:
    """Find magnitudes of Fourier bins that have these mel bins.

    Args:
        mel_TM: Magnitudes of mel bins (T, 80).

    Returns:
        (T, 513), nothing negative.
    """
    filters_FM = mel_filters()
    projected_TF = mel_TM @ filters_FM.T
    found_TF = projected_TF / np.maximum(filters_FM.sum(1) ** 2, _TINY).max()
    for _ in range(INVERSION_STEPS):
        found_TF = found_TF * projected_TF / np.maximum((found_TF @ filters_FM) @ filters_FM.T, _TINY)
    return np.asarray(found_TF, np.float64)


def _spectrum(waveform: Array, frames: Frames = MEL_FRAMES) -> Complex:
    half = frames.fft_length // 2
    cut = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, half), frames.fft_length)[:: frames.hop_length]
    return np.fft.rfft(cut * window(frames))


def _waveform(spectrum_TF: Complex, num_samples: int, frames: Frames = MEL_FRAMES) -> Array:
    """Add frames up, each windowed again, over the sum of squared windows: the least squares waveform."""
    half, hop, length = frames.fft_length // 2, frames.hop_length, frames.fft_length
    pieces_TN = np.fft.irfft(spectrum_TF, length) * window(frames)
    total = np.zeros(num_samples + 2 * half + hop)
    weight = np.zeros_like(total)
    squared = np.square(window(frames))
    for place, piece_N in enumerate(pieces_TN):
        total[place * hop : place * hop + length] += piece_N
        weight[place * hop : place * hop + length] += squared
    return total[half : half + num_samples] / np.maximum(weight[half : half + num_samples], _TINY)
