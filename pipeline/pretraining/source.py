"""Micro-batches of masked prediction: crops of utterances, what is masked, and the tokens to predict.

Everything is keyed by seed, utterance and step (the order of utterances and their speed by epoch), so a micro-batch is
the same on any worker, in any run.

Letters: B batch, S samples, T frames, C target columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.audio.clock import Clock
from pipeline.batches.augment import Augmenter, AugmentSettings
from pipeline.batches.cropping import crop_piece
from pipeline.batches.noises import read_some
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.pools import BatchTicket, Pools, PoolSettings
from pipeline.batches.sides import VALIDATION, ByHash
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.pretraining.masking import span_mask
from pipeline.seeds import rng
from pipeline.training.recipe import Json, Tensors


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What a source reads and how it cuts it; see ``PretrainEncoderConfig`` for the words."""

    manifest: str
    tokens: str
    columns: tuple[str, ...]
    clock: Clock
    normalize: bool
    seed: int
    max_samples: int
    crop_seconds: float
    min_frames: int
    mask_probability: float
    mask_length: int
    shuffle_hours: float
    valid_fraction: float
    valid_minutes: float
    cache_bytes: int
    augment: AugmentSettings


class TokenSource:
    """Crops of utterances with their tokens, for masked prediction."""

    def __init__(self, settings: DataSettings) -> None:
        """Open the datasets and read noises and rooms.

        Args:
            settings: What to read and how to cut it.
        """
        self._settings = settings
        clock, augment = settings.clock, settings.augment
        utterances = Utterances(
            PieceSettings(manifest=settings.manifest, clock=clock, tokens=settings.tokens, columns=settings.columns)
        )
        self._waveforms = Waveforms(
            clock, utterances.roots, normalize=settings.normalize, cache_bytes=settings.cache_bytes
        )
        noises, rooms = (
            read_some(uri, clock.sample_rate, settings.seed) if uri is not None else []
            for uri in (augment.noise, augment.rooms)
        )
        self._augmenter = Augmenter(augment, clock.sample_rate, noises, rooms)
        pools = PoolSettings(
            seed=settings.seed,
            shuffle_hours=settings.shuffle_hours,
            max_samples=settings.max_samples,
            longest=clock.num_frames(int(settings.crop_seconds * clock.sample_rate)),
            min_frames=settings.min_frames,
        )
        sides = ByHash(seed=settings.seed, shares={VALIDATION: settings.valid_fraction})
        self._pools = Pools(utterances, sides, pools, augment)

    def tickets(self, cursor: Json) -> Iterator[tuple[BatchTicket, Json]]:
        """Give micro-batches without end; see ``Pools.tickets``."""
        return self._pools.tickets(cursor)

    def validation(self) -> dict[str, list[BatchTicket]]:
        """Give the validation micro-batches: utterances of a random order of shards until there are enough minutes."""
        tickets = list(self._pools.held_out(VALIDATION, self._settings.valid_minutes).tickets)
        return {VALIDATION: tickets} if tickets else {}

    def load(self, ticket: BatchTicket, step: int) -> Tensors:
        """Decode, cut, augment and mask one micro-batch.

        Returns:
            ``waveform`` float32 (B, S), ``targets`` int64 (B, T, C), ``mask`` bool (B, T).
        """
        rows = [
            self._row(piece, speed, ticket, step) for piece, speed in zip(ticket.pieces, ticket.speeds, strict=True)
        ]
        waveform_BS, targets_BTC, mask_BT = (np.stack(column) for column in zip(*rows, strict=True))
        return {
            "waveform": torch.from_numpy(waveform_BS),
            "targets": torch.from_numpy(targets_BTC.astype(np.int64)),
            "mask": torch.from_numpy(mask_BT),
        }

    def _row(
        self, piece: Piece, speed: float, ticket: BatchTicket, step: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        settings, num_frames = self._settings, ticket.num_frames
        chance = rng(settings.seed, "crop", piece.key, step)
        waveform = self._waveforms(piece)
        found = crop_piece(piece, waveform, clock=settings.clock, num_frames=num_frames, rng=chance, speed=speed)
        assert found.waveform is not None
        heard = self._augmenter(found.waveform, chance) if ticket.training else found.waveform
        mask = span_mask(
            num_frames,
            probability=settings.mask_probability,
            length=settings.mask_length,
            rng=rng(settings.seed, "mask", piece.key, step),
        )
        return np.ascontiguousarray(heard, dtype=np.float32), found.tokens, mask

    def close(self) -> None:
        """End the decoding process."""
        self._waveforms.close()
