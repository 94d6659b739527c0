"""How loud a waveform is: what counts as silence, and one level for judges whose figure depends on it."""

import numpy as np

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.judge import SAMPLE_RATE, Reason, Waveform

SILENCE_PEAK = 1e-3
"""A waveform that never exceeds this (-60 dB of full scale) is silence: pitch and recognition would invent speech."""


SPEECH_LEVEL = -26.0
"""Root mean square level of what level-dependent networks hear, dB of full scale."""


def is_silent(waveform: Waveform) -> bool:
    """Say whether no sample exceeds -60 dB of full scale; True for no samples."""
    return not len(waveform) or float(np.abs(waveform).max()) < SILENCE_PEAK


def check_audible(waveform: Waveform, *, least_seconds: float, what: str = "it") -> None:
    """Refuse silence, and what is too short for a judge.

    Args:
        waveform: float32 (S,) at 16 kHz.
        least_seconds: Shortest that the judge judges.
        what: Which waveform this is, for the message.

    Raises:
        UnjudgedError: It is silent or too short.
    """
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < least_seconds:
        raise UnjudgedError(Reason.TOO_SHORT, f"{what} has {seconds:.2f} s, at least {least_seconds:g} are needed")
    if is_silent(waveform):
        raise UnjudgedError(Reason.SILENT, f"{what} never exceeds -60 dB of full scale")


def at_level(waveform: Waveform, decibels: float = SPEECH_LEVEL) -> Waveform:
    """Give the waveform at one root mean square level, lower where its peak would pass full scale.

    Args:
        waveform: float32 (S,), not silent.
        decibels: Root mean square of all samples, dB of full scale.
    """
    double = waveform.astype(np.float64)
    gain = 10 ** (decibels / 20) / np.sqrt(np.mean(double * double))
    levelled: Waveform = (double * min(gain, 1 / np.abs(double).max())).astype(np.float32)
    return levelled
