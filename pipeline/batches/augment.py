"""Speed, equaliser, rooms, noise and telephone band: what is done to a crop before the encoder hears it.

Targets stay those of clean speech. Speed changes pitch and formants with the tempo, as another speaker would; an
equaliser changes what microphone and vocal tract colour. Everything keeps the crop's power, because each utterance
comes with unit variance.

Source of the random equaliser: Choi et al. 2021, NANSY, arXiv 2110.14513, section 3.1; Qian et al. 2022, ContentVec,
arXiv 2204.09224, section 3.3. Theirs has peaking filters; this one interpolates gains of octaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from pipeline.errors import SettingsError

_OCTAVES = 8
"""Octaves of the equaliser: from 62.5 Hz to 8 kHz at 16 kHz."""
_TELEPHONE_HZ = (3400.0, 4000.0)


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """What is done to training audio, and how often."""

    speed_range: float = 0.0
    """Utterances are played up to this much faster or slower, as 0.1 for 0.9 to 1.1; 0: never."""
    speed_probability: float = 0.5
    """Share of utterances whose speed is changed, where speed_range is above 0."""
    equalizer_range: float = 0.0
    """Each octave is made up to this much louder or softer, dB, with straight lines between octaves; 0: never."""
    equalizer_probability: float = 0.5
    """Share of crops that an equaliser is applied to, where equalizer_range is above 0."""
    narrowband_probability: float = 0.0
    """Share of crops that lose what is above 3.4 to 4 kHz, as over a telephone."""
    noise: str | None = None
    """Manifest of noises to add, local or s3://; of more than an hour, an hour at random."""
    noise_probability: float = 0.3
    """Share of crops that noise is added to, where there are noises."""
    min_snr_db: float = 0.0
    """Lowest ratio of speech to added noise, dB."""
    max_snr_db: float = 20.0
    """Highest ratio of speech to added noise, dB."""
    rooms: str | None = None
    """Manifest of room impulse responses, local or s3://; of more than an hour, an hour at random."""
    room_probability: float = 0.2
    """Share of crops that are heard in a room, where there are rooms."""

    def check_augmentation(self) -> None:
        """Refuse values out of range.

        Raises:
            SettingsError: One is.
        """
        if not 0 <= self.speed_range <= 0.5:
            raise SettingsError(f"speed_range must be in [0, 0.5], got {self.speed_range}")
        if not 0 <= self.equalizer_range <= 40:
            raise SettingsError(f"equalizer_range must be in [0, 40] dB, got {self.equalizer_range}")
        for name in ("speed", "equalizer", "narrowband", "noise", "room"):
            share = getattr(self, f"{name}_probability")
            if not 0 <= share <= 1:
                raise SettingsError(f"{name}_probability must be in [0, 1], got {share}")
        if not self.min_snr_db <= self.max_snr_db:
            raise SettingsError(f"min_snr_db {self.min_snr_db} must not be above max_snr_db {self.max_snr_db}")


def draw_speed(settings: AugmentSettings, rng: np.random.Generator) -> float:
    """Choose how fast an utterance is played; mostly or always 1."""
    if not settings.speed_range or rng.random() >= settings.speed_probability:
        return 1.0
    # A step of 1 % keeps the resampler's filters few.
    return 1 + round(float(rng.uniform(-settings.speed_range, settings.speed_range)), 2)


def change_speed(waveform: np.ndarray, speed: float, num_samples: int) -> np.ndarray:
    """Play a waveform faster.

    Args:
        waveform: float32 (S,).
        speed: How many times as fast.
        num_samples: Samples to give: what the resampler leaves over is cut, what it lacks is zero.

    Returns:
        float32 (num_samples,).
    """
    if speed == 1:
        return waveform[:num_samples]
    # Rates of which only the quotient counts.
    found = soxr.resample(waveform, round(1000 * speed), 1000, quality="MQ")[:num_samples]
    return np.pad(found, (0, num_samples - len(found)))


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add a random stretch of a noise, repeated where it is shorter.

    Args:
        waveform: float32 (S,).
        noise: float32 (N,); a silent stretch changes nothing.
        snr_db: Ratio of the waveform's power to the noise's, dB.
        rng: Which stretch.

    Returns:
        float32 (S,), with the waveform's power.
    """
    start = int(rng.integers(len(noise)))
    stretch = np.take(noise, np.arange(start, start + len(waveform)), mode="wrap")
    power, loud = float(np.mean(waveform**2)), float(np.mean(stretch**2))
    if loud == 0:
        return waveform
    return _with_power(waveform + stretch * np.float32(np.sqrt(power / loud / 10 ** (snr_db / 10))), power)


def in_room(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve a waveform with a room's impulse response, its loudest path without delay, so that frames stay aligned.

    Args:
        waveform: float32 (S,).
        response: float32 (R,); one without sound changes nothing.

    Returns:
        float32 (S,), with the waveform's power.
    """
    from scipy.signal import fftconvolve

    if not response.any():
        return waveform
    direct = response[int(np.argmax(np.abs(response))) :]
    heard = fftconvolve(waveform, direct)[: len(waveform)].astype(np.float32)
    return _with_power(heard, float(np.mean(waveform**2)))


def equalize(waveform: np.ndarray, gains_db: np.ndarray, sample_rate: int) -> np.ndarray:
    """Make octaves louder or softer, without delay.

    Args:
        waveform: float32 (S,).
        gains_db: (G,), the gain at the G octaves that end at half the sample rate, lowest first; below the lowest it
            stays, between two it is a straight line of dB over octaves.
        sample_rate: Hz.

    Returns:
        float32 (S,), with the waveform's power.
    """
    octaves = np.arange(1 - len(gains_db), 1)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        heights = np.log2(np.maximum(frequencies, 1.0) / (sample_rate / 2))
        found: np.ndarray = 10 ** (np.interp(heights, octaves, gains_db) / 20)
        return found

    return _filtered(waveform, gain, sample_rate)


def narrow(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Take away what a telephone does not carry: all above 4 kHz, from 3.4 kHz on more and more.

    Args:
        waveform: float32 (S,).
        sample_rate: Hz.

    Returns:
        float32 (S,), with the waveform's power.
    """
    return _filtered(waveform, lambda frequencies: np.interp(frequencies, _TELEPHONE_HZ, (1.0, 0.0)), sample_rate)


def _filtered(waveform: np.ndarray, gain: Callable[[np.ndarray], np.ndarray], sample_rate: int) -> np.ndarray:
    """Multiply a spectrum; the filter has no phase, so frames stay aligned."""
    from scipy.fft import irfft, next_fast_len, rfft

    # The end must not be heard at the beginning: a tenth of a second is longer than the filters ring.
    size = next_fast_len(len(waveform) + sample_rate // 10, real=True)
    spectrum = rfft(waveform, size) * gain(np.fft.rfftfreq(size, 1 / sample_rate)).astype(np.float32)
    return _with_power(irfft(spectrum, size)[: len(waveform)], float(np.mean(waveform**2)))


def _with_power(waveform: np.ndarray, power: float) -> np.ndarray:
    found = float(np.mean(waveform**2))
    scaled: np.ndarray = waveform * np.float32(np.sqrt(power / found)) if found else waveform
    return scaled.astype(np.float32)


class Augmenter:
    """Changes how crops sound: equaliser, room, noise, telephone, in this order."""

    def __init__(
        self,
        settings: AugmentSettings,
        sample_rate: int,
        noises: Sequence[np.ndarray],
        rooms: Sequence[np.ndarray],
    ) -> None:
        """Take the recordings.

        Args:
            settings: How often.
            sample_rate: Of the encoder, Hz.
            noises: float32 (N,) each, at the encoder's rate.
            rooms: float32 (R,) each, at the encoder's rate.
        """
        self._settings, self._rate, self._noises, self._rooms = settings, sample_rate, noises, rooms

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change a crop, or leave it as it is.

        Args:
            waveform: float32 (S,), not changed.
            rng: What is done.
        """
        settings = self._settings
        if settings.equalizer_range and rng.random() < settings.equalizer_probability:
            gains = rng.uniform(-settings.equalizer_range, settings.equalizer_range, _OCTAVES)
            waveform = equalize(waveform, gains, self._rate)
        if self._rooms and rng.random() < settings.room_probability:
            waveform = in_room(waveform, self._rooms[int(rng.integers(len(self._rooms)))])
        if self._noises and rng.random() < settings.noise_probability:
            noise = self._noises[int(rng.integers(len(self._noises)))]
            waveform = add_noise(waveform, noise, float(rng.uniform(settings.min_snr_db, settings.max_snr_db)), rng)
        if settings.narrowband_probability and rng.random() < settings.narrowband_probability:
            waveform = narrow(waveform, self._rate)
        return waveform
