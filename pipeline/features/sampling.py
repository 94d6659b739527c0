"""A sample of frames chosen by hash, the same on every machine, for any order and number of workers.

A frame's hash is splitmix64 of (blake2b of seed and utterance id) + frame number; it is kept where the hash is
below fraction * 2^64. So a smaller fraction keeps a subset of what a larger one keeps. Cost: O(T).
"""

import hashlib

import numpy as np


def frame_hash(seed: int, utterance_id: str, frames: np.ndarray) -> np.ndarray:
    """Hash frames of an utterance.

    Args:
        seed: Any integer.
        utterance_id: The utterance.
        frames: Frame numbers (T,), at least 0.

    Returns:
        uint64 (T,), uniform.

    Source:
        splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
        figure 16; the stream's start is blake2b instead of the seed itself.
    """
    digest = hashlib.blake2b(f"{seed}\0{utterance_id}".encode(), digest_size=8).digest()
    # Multiplication of uint64 arrays wraps silently; of scalars it would warn, so the start is an array.
    mixed = np.frombuffer(digest, "<u8") + (np.asarray(frames).astype(np.uint64) + np.uint64(1)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return hashes


def sampled_frames(
    seed: int, utterance_id: str, num_frames: int, fraction: float, *, first_frame: int = 0
) -> np.ndarray:
    """Choose a share of the frames of an utterance, or of a stretch of it.

    Args:
        seed: Any integer; another seed gives another sample.
        utterance_id: The utterance.
        num_frames: T.
        fraction: Expected share of frames kept, 0 to 1.
        first_frame: Where the stretch begins; a frame is kept or not whatever stretch it is in.

    Returns:
        int32, the frame numbers kept, from ``first_frame`` to ``first_frame + T - 1``, ascending; all of them for 1.

    Raises:
        ValueError: The fraction is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    frames = np.arange(first_frame, first_frame + num_frames, dtype=np.int32)
    if fraction == 1:
        return frames
    return frames[frame_hash(seed, utterance_id, frames) < np.uint64(int(fraction * 2**64))]
