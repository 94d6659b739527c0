"""Noises and room impulse responses: recordings that every worker holds in memory whole.

Memory: ``MOST_SECONDS`` of audio at most, 230 MB at 16 kHz.
"""

import logging

import numpy as np

from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.loading import Manifest
from pipeline.audio.pieces import decode_place
from pipeline.seeds import rng

MOST_SECONDS = 3600.0
"""Audio of noises, or of rooms, that each worker holds in memory."""

logger = logging.getLogger(__name__)


def read_some(manifest: str, sample_rate: int, seed: int, *, most_seconds: float = MOST_SECONDS) -> list[np.ndarray]:
    """Decode the recordings of a manifest that all workers hold in memory, as of noises or rooms.

    Args:
        manifest: Manifest dataset.
        sample_rate: Rate of the waveforms, Hz.
        seed: Chooses the order of shards where there is more than ``most_seconds``, so that it is not the first folder
            alone that is heard.
        most_seconds: Audio at most, but for the end of a recording.

    Returns:
        float32 (S,) each.

    Raises:
        AudioDecodeError: A recording cannot be used.
    """
    opened = Manifest(manifest)
    units = opened.units
    if opened.seconds > most_seconds:
        units = [units[place] for place in rng(seed, "read some").permutation(len(units))]
    found: list[np.ndarray] = []
    seconds = 0.0
    with Decoder(sample_rate=sample_rate, limits=DecodeLimits(), roots=tuple(opened.roots)) as decoder:
        for unit in units:
            for row in opened.rows(unit).select(list(opened.place_columns)).to_pylist():
                if seconds >= most_seconds:
                    return found
                found.append(to_float32(decode_place(decoder, row)))
                seconds += len(found[-1]) / sample_rate
    return found


def check_amount(name: str, manifest: Manifest) -> None:
    """Warn of a manifest that ``read_some`` does not read whole.

    Args:
        name: The setting that names it.
        manifest: It, opened.
    """
    if manifest.seconds > MOST_SECONDS:
        logger.warning(
            "%s: %s has %.1f h of audio; training hears %g h of it, shards chosen at random",
            name, manifest.dataset.uri, manifest.seconds / 3600, MOST_SECONDS / 3600,
        )  # fmt: skip
