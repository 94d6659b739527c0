"""Crops: stretches of utterances, exact to the frame, as they are or played faster.

A crop of frames a to b hears samples a * hop to (b - 1) * hop + field (``audio/clock.py``), and the encoder gives
exactly its frames, aligned with tokens a to b. Sample s of an utterance that is played f times as fast is sample s * f
of the utterance, so a frame of the crop has the token of the frame whose centre is nearest.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.audio.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A stretch of an utterance as the model hears it.

    Attributes:
        first_frame: Frame of the utterance at which it begins.
        num_frames: Frames that the model gives (T).
        speed: How many times as fast as the utterance it is played.
        first_sample: Sample of the utterance at which it begins.
        num_samples: Samples of the utterance in it: those of the T frames times the speed, rounded up.
    """

    first_frame: int
    num_frames: int
    speed: float
    first_sample: int
    num_samples: int


def crop(clock: Clock, total_frames: int, num_frames: int, speed: float, rng: np.random.Generator) -> Crop:
    """Choose where a crop begins.

    Args:
        clock: The encoder's frames.
        total_frames: Frames of the utterance.
        num_frames: Frames that the crop is to give, at most ``longest_crop`` of the utterance at this speed.
        speed: How many times as fast it is played.
        rng: Where the choice comes from.
    """
    heard = math.ceil(clock.num_samples(num_frames) * speed)
    spare = clock.num_samples(total_frames) - heard
    assert spare >= 0, (total_frames, num_frames, speed)
    first = int(rng.integers(spare // clock.hop_length + 1))
    return Crop(
        first_frame=first, num_frames=num_frames, speed=speed, first_sample=first * clock.hop_length, num_samples=heard
    )


def longest_crop(clock: Clock, total_frames: int, speed: float) -> int:
    """Count the frames that an utterance has when it is played faster."""
    return total_frames if speed == 1 else clock.num_frames(int(clock.num_samples(total_frames) / speed))


def token_index(clock: Clock, cropped: Crop, total_frames: int) -> np.ndarray:
    """Give the frame of the utterance whose token belongs to each frame of a crop.

    Args:
        clock: The encoder's frames.
        cropped: The crop.
        total_frames: Frames of the utterance.

    Returns:
        int64 (T,).
    """
    frames = np.arange(cropped.num_frames)
    if cropped.speed == 1:
        return cropped.first_frame + frames
    centres = (frames * clock.hop_length + clock.receptive_field / 2) * cropped.speed
    nearest = np.rint((centres - clock.receptive_field / 2) / clock.hop_length).astype(np.int64)
    return np.clip(cropped.first_frame + nearest, 0, total_frames - 1)
