"""The mean vector of each training speaker, so that a vocoder whose speakers are vectors can be told one by name.

A mean is taken over the first utterances of a speaker that training hears, in the order of their keys; its length is 1.
Time: at most ``MOST_UTTERANCES`` are decoded and encoded, on the driver, once training has ended. Memory: their places.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.sides import TRAIN
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.vocoder.speaker_vectors import SpeakerVectors
from pipeline.vocoder.training.source import VocoderData

logger = logging.getLogger(__name__)

PER_SPEAKER, MOST_UTTERANCES = 20, 10_000
"""Utterances that the mean of a speaker is of, at most; and those that are heard for all means together."""
_SPEAKER = "speaker"


def mean_voices(
    data: VocoderData, *, per_speaker: int = PER_SPEAKER, most: int = MOST_UTTERANCES
) -> dict[str, np.ndarray]:
    """Give the mean vector of each speaker of the training side, float32 (256,) by name.

    A speaker who is silent in all of these utterances has none; nor is there any where the manifest names no speaker.

    Args:
        data: What was trained on.
        per_speaker: Utterances of a speaker that its mean is of, at most.
        most: Utterances that are heard for all means together; of many speakers fewer each, past that the first by
            name alone.

    Raises:
        AudioDecodeError: A recording has become unreadable since it was tokenised.
        SettingsError: The speaker encoder is not the one of the training.
    """
    utterances = Utterances(
        PieceSettings(
            manifest=data.manifest,
            clock=data.clock,
            tokens=data.tokens,
            columns=data.columns,
            labels=tuple(dict.fromkeys([*data.sides.columns, _SPEAKER])),
        )
    )
    chosen = _chosen(data, utterances, per_speaker, most)
    if not chosen:
        return {}
    logger.info("finding the mean voices of %d speakers, of %d utterances", len(chosen), sum(map(len, chosen.values())))
    encode = SpeakerVectors(data.speaker_encoder)
    waveforms = Waveforms(data.clock, utterances.roots, normalize=False, cache_bytes=0, spare_frames=1)
    found: dict[str, np.ndarray] = {}
    try:
        for name, pieces in chosen.items():
            vectors = [encode(waveforms(piece)[: piece.num_frames * data.clock.hop_length]) for piece in pieces]
            mean = np.mean(np.stack(vectors), axis=0, dtype=np.float64)
            if mean.any():
                found[name] = np.asarray(mean / np.linalg.norm(mean), np.float32)
    finally:
        waveforms.close()
    return found


def _chosen(data: VocoderData, utterances: Utterances, per_speaker: int, most: int) -> dict[str, list[Piece]]:
    """Choose the utterances of each speaker; names and keys are in order."""
    held: dict[str, list[Piece]] = {}
    for name, piece in _heard_in_training(data, utterances):
        # Their tokens are not needed, and would be most of the memory.
        held.setdefault(name, []).append(replace(piece, tokens=np.zeros((0, 0), np.uint16)))
        if len(held[name]) == 2 * per_speaker:
            held[name] = _first(held[name], per_speaker)
    names = sorted(held)[:most]
    if len(names) < len(held):
        logger.info("the first %d of %d speakers are known by name", len(names), len(held))
    each = max(1, min(per_speaker, most // max(1, len(names))))
    return {name: _first(held[name], each) for name in names}


def _first(pieces: list[Piece], count: int) -> list[Piece]:
    return sorted(pieces, key=lambda piece: piece.key)[:count]


def _heard_in_training(data: VocoderData, utterances: Utterances) -> Iterator[tuple[str, Piece]]:
    for unit in utterances.units:
        for piece in utterances.pieces([unit]):
            name = piece.labels[_SPEAKER]
            if name is None or piece.num_frames < data.min_frames:
                continue
            if data.sides.side(piece.utterance_id, piece.labels) == TRAIN:
                yield name, piece
