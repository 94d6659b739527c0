"""Speech in a room, and speech with noise: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from pipeline.audio.mixtures.levels import centred, mean_power

_HIGHEST = 32_767 / 32_768
"""The largest sample of 16 bits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """Speech with noise.

    Attributes:
        waveform: float32 (S,), not past full scale.
        gain_db: What all of it was multiplied with so that it is not, dB; 0 where it was not.
        noise_power: Mean square of the noise in it.
    """

    waveform: np.ndarray
    gain_db: float
    noise_power: float


def add(speech: np.ndarray, noise: np.ndarray, snr_db: float, speech_power: float) -> Mixture:
    """Add noise to speech, without the constant offset of the noise.

    Args:
        speech: float32 (S,).
        noise: float32 (S,), not silent.
        snr_db: Ratio of the speech's power to that of the noise, dB.
        speech_power: Power of the speech, by whatever measure the ratio is to be.
    """
    power = speech_power / 10 ** (snr_db / 10)
    mixed = speech.astype(np.float64) + centred(noise) * np.sqrt(power / mean_power(noise))
    gain = min(1.0, _HIGHEST / max(float(np.abs(mixed).max()), _HIGHEST))
    return Mixture(
        waveform=(mixed * gain).astype(np.float32),
        gain_db=float(20 * np.log10(gain)),
        noise_power=power * gain**2,
    )


def in_room(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve a waveform with a room's impulse response, whose loudest path comes without delay and with the gain 1.

    So sample t is what was said at sample t, with its sign and level, and what the room adds. To a constant offset of
    the speech it adds nothing: air carries none, while measured responses may have a gain of 33 dB for it.

    Args:
        waveform: float32 (S,).
        response: float32 (R,), not silent.

    Returns:
        float32 (S,).
    """
    from scipy.signal import fftconvolve

    direct = int(np.argmax(np.abs(response)))
    paths = response[direct:].astype(np.float64) / float(response[direct])
    samples = centred(waveform)
    added: np.ndarray = fftconvolve(samples, paths)[: len(waveform)] - samples
    heard: np.ndarray = (waveform + added).astype(np.float32)
    return heard


def stretch(noise: np.ndarray, start: int, num_samples: int) -> np.ndarray:
    """Give a stretch of a noise, which begins anew where it ends, without a cross-fade.

    Args:
        noise: (N,), at least one sample.
        start: First sample of the stretch.
        num_samples: Its length.
    """
    return np.take(noise, np.arange(start, start + num_samples), mode="wrap")
