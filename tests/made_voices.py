"""A voice made on the spot: harmonics under three formants, in syllables, with a melody of its own."""

import numpy as np

RATE = 16_000
FORMANTS = ((600, 120), (1400, 160), (2600, 220))


def voice(seconds=2.4, *, hertz=140.0, melody=0.15, seed=0):
    """Give float32 (S,): syllables of 300 ms at 16 kHz, whose pitch swings around ``hertz`` by the part ``melody``."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = hertz * (1 + melody * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
    turns = np.cumsum(pitch) / RATE
    steps = np.arange(0, seconds + 0.3, 0.3)
    shifts = np.interp(time, steps, rng.uniform(0.8, 1.25, len(steps)))
    sound = np.zeros_like(time)
    for order in range(1, int(7000 / hertz)):
        loud = sum(1 / (1 + ((order * pitch - place * shifts) / width) ** 2) for place, width in FORMANTS)
        sound += loud / order**0.5 * np.sin(2 * np.pi * order * turns)
    syllables = np.clip(np.sin(2 * np.pi * time / 0.6) ** 2 * 1.6 - 0.2, 0, 1)
    sound = sound * syllables + 1e-4 * rng.standard_normal(len(time))
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def with_noise(waveform, decibels, seed=1):
    """Add white noise at a ratio of signal to noise, dB."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    gain = np.sqrt(np.mean(waveform.astype(float) ** 2) / np.mean(noise**2) / 10 ** (decibels / 10))
    return (waveform + gain * noise).astype(np.float32)


def pair(generated, reference=None, *, text=None, name="u", condition="c"):
    """Give what a judge judges; compared with itself where no reference is given."""
    from pipeline.metrics.speech.judge import Pair

    reference = generated if reference is None else reference
    return Pair(utterance_id=name, condition=condition, generated=generated, reference=reference, text=text)
