"""Speed, rooms and noise: what is done to a crop before the encoder hears it. Targets stay those of clean speech.

Speed changes pitch and formants with the tempo, as another speaker would. Everything keeps the crop's power, because
each utterance comes with unit variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from pipeline.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """What is done to training audio, and how often."""

    speed_range: float = 0.0
    """Utterances are played up to this much faster or slower, as 0.1 for 0.9 to 1.1; 0: never."""
    speed_probability: float = 0.5
    """Share of utterances whose speed is changed, where speed_range is above 0."""
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
        for name in ("speed_probability", "noise_probability", "room_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be in [0, 1], got {getattr(self, name)}")
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


def _with_power(waveform: np.ndarray, power: float) -> np.ndarray:
    found = float(np.mean(waveform**2))
    scaled: np.ndarray = waveform * np.float32(np.sqrt(power / found)) if found else waveform
    return scaled.astype(np.float32)


class Augmenter:
    """Puts crops into rooms and noise."""

    def __init__(self, settings: AugmentSettings, noises: Sequence[np.ndarray], rooms: Sequence[np.ndarray]) -> None:
        """Take the recordings.

        Args:
            settings: How often.
            noises: float32 (N,) each, at the encoder's rate.
            rooms: float32 (R,) each, at the encoder's rate.
        """
        self._settings, self._noises, self._rooms = settings, noises, rooms

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change a crop, or leave it as it is.

        Args:
            waveform: float32 (S,), not changed.
            rng: What is done.
        """
        settings = self._settings
        if self._rooms and rng.random() < settings.room_probability:
            waveform = in_room(waveform, self._rooms[int(rng.integers(len(self._rooms)))])
        if self._noises and rng.random() < settings.noise_probability:
            noise = self._noises[int(rng.integers(len(self._noises)))]
            waveform = add_noise(waveform, noise, float(rng.uniform(settings.min_snr_db, settings.max_snr_db)), rng)
        return waveform
