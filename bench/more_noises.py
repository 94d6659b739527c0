"""Noises to train on where recordings of noise are few: those played faster and slower, coloured noise, and babble.

Everything is drawn from one seed, and written as 16-bit WAV of 16 kHz. Nothing here is heard in a test.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

RATE = 16_000
SECONDS = 10.0
SPEEDS = ((2, 3), (4, 5), (5, 4), (3, 2))
"""How much faster a recording is played, as a fraction."""
COLOURS = tuple(np.linspace(0, 2, 8))
"""Power falls with frequency to the power of this: 0 is white, 1 pink, 2 brown noise."""
VOICES = (3, 4, 5, 6, 7, 8, 10)
"""How many talk in each babble."""


def written(folder: Path, recordings: Sequence[Path], talkers: Sequence[Path], seed: int = 0) -> list[Path]:
    """Write the noises.

    Args:
        folder: Where to, made if need be.
        recordings: Noises of 16 kHz, to be played at other speeds.
        talkers: Clean recordings of 16 kHz, of whom babble is made.
        seed: Of all that is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, samples in _noises(recordings, talkers, np.random.default_rng(seed)):
        found.append(folder / f"{name}.wav")
        soundfile.write(found[-1], 0.5 * samples / np.abs(samples).max(), RATE)
    return found


def _noises(
    recordings: Sequence[Path], talkers: Sequence[Path], random: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    for path in recordings:
        samples, _ = soundfile.read(path)
        for over, under in SPEEDS:
            yield f"{path.stem}_{over}_{under}", resample_poly(samples, under, over)
    for number, slope in enumerate(COLOURS):
        yield f"coloured_{number}", _swelling(_coloured(slope, random), random)
    for voices in VOICES:
        yield f"babble_{voices}", _babble([talkers[at] for at in random.choice(len(talkers), voices, replace=False)])


def _coloured(slope: float, random: np.random.Generator) -> np.ndarray:
    size = int(SECONDS * RATE)
    spectrum = np.fft.rfft(random.standard_normal(size))
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    return np.fft.irfft(spectrum * np.maximum(frequencies, 20.0) ** (-slope / 2), size)


def _swelling(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Let the level rise and fall by up to 6 dB, a few times per second: no noise of the world stands still."""
    steps = np.linspace(0, 1, int(3 * SECONDS))
    level = np.interp(np.linspace(0, 1, len(samples)), steps, random.uniform(-6, 6, len(steps)))
    return samples * 10 ** (level / 20)


def _babble(talkers: Sequence[Path]) -> np.ndarray:
    size = int(SECONDS * RATE)
    told = []
    for path in talkers:
        samples, _ = soundfile.read(path)
        samples = np.resize(samples, size)
        told.append(samples / np.sqrt(np.mean(samples**2)))
    return np.sum(told, axis=0)
