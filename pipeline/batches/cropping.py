"""Pieces cropped: the samples of a stretch beside the frames that belong to them.

By an encoder's own clock, a crop of T frames has the samples of which it gives exactly T frames. By ``Clock.of_hops``
it has T hops of samples: what a vocoder makes of T frames. Without a waveform, frames alone are cropped.

Letters: S samples, T frames, C token columns, L layers, D feature width.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.batches.augment import change_speed
from pipeline.batches.crops import crop, token_index
from pipeline.batches.pieces import Piece


@dataclass(frozen=True, kw_only=True, eq=False)
class CroppedPiece:
    """A stretch of an utterance.

    Attributes:
        first_frame: Frame of the piece at which it begins.
        tokens: uint16 (T, C).
        features: float16 (T, L, D).
        waveform: float32 (S,) with S the clock's samples of T frames; None where none was given.
    """

    first_frame: int
    tokens: np.ndarray
    features: np.ndarray
    waveform: np.ndarray | None


def crop_piece(
    piece: Piece,
    waveform: np.ndarray | None,
    *,
    clock: Clock,
    num_frames: int,
    rng: np.random.Generator,
    speed: float = 1.0,
) -> CroppedPiece:
    """Take a random crop of a piece.

    Args:
        piece: The piece.
        waveform: Its samples from its first frame on, float32; None for frames alone.
        clock: How the crop's frames lie on its samples; of the encoder's hop, and of no longer a field.
        num_frames: Frames of the crop (T), at most ``longest_crop`` of the piece at this speed.
        rng: Where it begins.
        speed: How many times as fast it is played.
    """
    cropped = crop(clock, piece.num_frames, num_frames, speed, rng)
    index = token_index(clock, cropped, piece.num_frames)
    heard = None
    if waveform is not None:
        heard = waveform[cropped.first_sample : cropped.first_sample + cropped.num_samples]
        heard = change_speed(heard, speed, clock.num_samples(num_frames))
    return CroppedPiece(
        first_frame=cropped.first_frame,
        tokens=piece.tokens[index],
        features=piece.features[index],
        waveform=heard,
    )
