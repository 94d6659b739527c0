"""Which side an utterance is on: training, validation, test."""

import hashlib


def share(seed: int, utterance_id: str) -> float:
    """Give an utterance's place in [0, 1): which of two sets it belongs to, whatever else there is."""
    digest = hashlib.blake2b(f"{seed}\0validation\0{utterance_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
