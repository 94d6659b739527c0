"""A sample of frames chosen by hash, the same on every machine, for any order and number of workers.

A frame's hash is splitmix64 of (blake2b of seed and utterance id) + frame number; it is kept where the hash is not
above a bound. So a lower bound keeps a subset of what a higher one keeps. Cost: O(T).
"""

import hashlib
from collections.abc import Iterable

import numpy as np

EVERY_HASH = 2**64 - 1
"""The bound that keeps every frame."""

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""What splitmix64's state grows by from one number to the next."""


def stream_starts(seed: int, utterance_ids: Iterable[str]) -> np.ndarray:
    """Give the state of splitmix64 before the first frame of each utterance.

    Args:
        seed: Any integer.
        utterance_ids: N utterances.

    Returns:
        uint64 (N,).
    """
    prefix = f"{seed}\0"
    digests = (hashlib.blake2b((prefix + name).encode(), digest_size=8).digest() for name in utterance_ids)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def mix(states: np.ndarray) -> np.ndarray:
    """Turn states of splitmix64 into its outputs, in their place.

    Args:
        states: uint64 (T,), overwritten.

    Returns:
        The same array.

    Source:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        states ^= states >> np.uint64(shift)
        states *= np.uint64(factor)
    states ^= states >> np.uint64(31)
    return states


def frame_hash(seed: int, utterance_id: str, frames: np.ndarray) -> np.ndarray:
    """Hash frames of an utterance.

    Args:
        seed: Any integer.
        utterance_id: The utterance.
        frames: Frame numbers (T,), at least 0.

    Returns:
        uint64 (T,), uniform; splitmix64, but the stream's start is blake2b instead of the seed itself.
    """
    # Multiplication of uint64 arrays wraps silently; of scalars it would warn, so the start is an array.
    return mix(stream_starts(seed, [utterance_id]) + (np.asarray(frames).astype(np.uint64) + np.uint64(1)) * GAMMA)


def draws(hashes: np.ndarray, number: int) -> np.ndarray:
    """Draw a random number for each frame, another one for each ``number``.

    It is output ``number`` of the splitmix64 that starts at the frame's hash. So draws are uniform even where a sample
    has kept small hashes of the same seed only.

    Args:
        hashes: uint64 (T,), from ``frame_hash``.
        number: Which draw, at least 1.

    Returns:
        float64 (T,), multiples of 2^-53 in [0, 1).
    """
    states = mix(hashes + np.array([number], np.uint64) * GAMMA)
    numbers: np.ndarray = (states >> np.uint64(11)) * 2.0**-53
    return numbers


def last_hash_of(fraction: float) -> int | None:
    """Give the bound that keeps a share of the frames.

    Args:
        fraction: Expected share of frames kept, 0 to 1.

    Returns:
        The highest hash that is kept, None when none is.

    Raises:
        ValueError: The fraction is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    limit = int(fraction * 2**64)
    return limit - 1 if limit else None


def sampled_frames(
    seed: int, utterance_id: str, num_frames: int, last_hash: int | None, *, first_frame: int = 0
) -> np.ndarray:
    """Choose frames of an utterance, or of a stretch of it.

    Args:
        seed: Any integer; another seed gives another sample.
        utterance_id: The utterance.
        num_frames: T.
        last_hash: The highest hash that is kept; None keeps nothing.
        first_frame: Where the stretch begins; a frame is kept or not whatever stretch it is in.

    Returns:
        int32, the frame numbers kept, from ``first_frame`` to ``first_frame + T - 1``, ascending.
    """
    frames = np.arange(first_frame, first_frame + num_frames, dtype=np.int32)
    if last_hash is None:
        return frames[:0]
    if last_hash == EVERY_HASH:
        return frames
    return frames[frame_hash(seed, utterance_id, frames) <= np.uint64(last_hash)]
