"""Random numbers that depend on a key and on nothing else: the same on any worker, in any run."""

import hashlib

import numpy as np


def rng(*key: object) -> np.random.Generator:
    """Give a random generator that depends on a key and on nothing else.

    Args:
        key: Seed, what the numbers are for, utterance, step: values whose ``str`` tells them apart.
    """
    return np.random.default_rng(int.from_bytes(_digest(key), "little"))


def torch_seed(*key: object) -> int:
    """Give a seed for torch from a key, in [0, 2^63)."""
    return int.from_bytes(_digest(key)[:8], "little") >> 1


def _digest(key: tuple[object, ...]) -> bytes:
    return hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
