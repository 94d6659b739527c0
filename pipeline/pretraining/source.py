"""Micro-batches of masked prediction: which utterances, which crops of them, what is masked.

Everything is keyed by seed, utterance and step (the order of utterances and their speed by epoch), so a micro-batch is
the same on any worker, in any run.

Letters: B batch, S samples, T frames, C target columns.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.audio.clock import Clock
from pipeline.batches.augment import Augmenter, AugmentSettings, change_speed, draw_speed
from pipeline.batches.crops import Group, crop, group_by_length, longest_crop, token_index
from pipeline.batches.noises import read_some
from pipeline.batches.pieces import Piece, Utterances
from pipeline.batches.sides import share
from pipeline.batches.waveforms import Waveforms
from pipeline.errors import DatasetError
from pipeline.pretraining.masking import span_mask
from pipeline.pretraining.model import MASKED, UNMASKED
from pipeline.seeds import rng
from pipeline.training.recipe import Json, Tensors

TOO_SHORT = "too_short"
"""What a cursor and a commit count: utterances, or ends of long ones, left out for having too few frames."""


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


@dataclass(frozen=True, kw_only=True)
class CropTicket:
    """A micro-batch of crops of about one length.

    Attributes:
        key: What tells it from all others.
        pieces: The utterances.
        speeds: How fast each is played.
        num_frames: Frames of each crop (T).
        training: Whether it may be augmented.
    """

    key: str
    pieces: tuple[Piece, ...]
    speeds: tuple[float, ...]
    num_frames: int
    training: bool


class TokenSource:
    """Crops of utterances with their tokens, for masked prediction."""

    def __init__(self, settings: DataSettings) -> None:
        """Open the datasets and read noises and rooms.

        Args:
            settings: What to read and how to cut it.
        """
        self._settings = settings
        clock, augment = settings.clock, settings.augment
        self._utterances = Utterances(settings.manifest, settings.tokens, settings.columns, clock)
        self._waveforms = Waveforms(
            clock, self._utterances.roots, normalize=settings.normalize, cache_bytes=settings.cache_bytes
        )
        noises, rooms = (
            read_some(uri, clock.sample_rate, settings.seed) if uri is not None else []
            for uri in (augment.noise, augment.rooms)
        )
        self._augmenter = Augmenter(augment, clock.sample_rate, noises, rooms)
        self._longest = clock.num_frames(int(settings.crop_seconds * clock.sample_rate))

    def tickets(self, cursor: Json) -> Iterator[tuple[CropTicket, Json]]:
        """Give micro-batches without end, pool after pool, epoch after epoch; see ``Source.tickets``.

        A cursor holds ``too_short`` too: utterances left out of the first epoch, in the pools before its own and in it.

        Raises:
            DatasetError: A whole epoch has none.
        """
        start = cursor or {"epoch": 0, "pool": 0, "batch": 0, TOO_SHORT: 0}
        epoch, pool, first, short = start["epoch"], start["pool"], start["batch"], start[TOO_SHORT]
        while True:
            pools = self._pools(epoch)
            empty = pool == 0
            for number in range(pool, len(pools)):
                pieces = self._training_pieces(pools[number])
                enough = [piece for piece in pieces if piece.num_frames >= self._settings.min_frames]
                if epoch == 0 and first == 0:
                    short += len(pieces) - len(enough)
                found = self._pool(epoch, number, enough)
                empty = empty and not found
                for place in range(first, len(found)):
                    yield found[place], {"epoch": epoch, "pool": number, "batch": place + 1, TOO_SHORT: short}
                first = 0
            if empty:
                settings = self._settings
                raise DatasetError(
                    f"{settings.tokens} leaves nothing to train on: no utterance has min_frames {settings.min_frames} "
                    f"and is not kept for validation (valid_fraction {settings.valid_fraction:g})"
                )
            epoch, pool = epoch + 1, 0

    def _pools(self, epoch: int) -> list[list[str]]:
        """Divide the shards of an epoch, in its order, into pools of about equal hours."""
        settings, units = self._settings, self._utterances.units
        order = rng(settings.seed, "units", epoch).permutation(len(units))
        hours = self._utterances.seconds / 3600
        count = min(len(units), max(1, math.ceil(hours / settings.shuffle_hours)))
        return [[units[place] for place in part] for part in np.array_split(order, count)]

    def _training_pieces(self, units: Sequence[str]) -> list[Piece]:
        return [piece for piece in self._utterances.pieces(units) if not self._validates(piece)]

    def _pool(self, epoch: int, number: int, pieces: Sequence[Piece]) -> list[CropTicket]:
        settings = self._settings
        speeds = [self._speed(piece, epoch) for piece in pieces]
        lengths = [
            longest_crop(settings.clock, piece.num_frames, speed) for piece, speed in zip(pieces, speeds, strict=True)
        ]
        groups = self._groups(lengths, f"{epoch}/{number}")
        return [
            CropTicket(
                key=f"{epoch}/{number}/{place}",
                pieces=tuple(pieces[row] for row in group.rows),
                speeds=tuple(speeds[row] for row in group.rows),
                num_frames=group.num_frames,
                training=True,
            )
            for place, group in enumerate(groups)
        ]

    def _groups(self, lengths: Sequence[int], key: str) -> list[Group]:
        settings = self._settings
        return group_by_length(
            lengths,
            clock=settings.clock,
            longest=self._longest,
            max_samples=settings.max_samples,
            rng=rng(settings.seed, "groups", key),
        )

    def _speed(self, piece: Piece, epoch: int) -> float:
        """Choose how fast an utterance is played; as it is where too little of it would be left."""
        settings = self._settings
        speed = draw_speed(settings.augment, rng(settings.seed, "speed", piece.key, epoch))
        enough = longest_crop(settings.clock, piece.num_frames, speed) >= settings.min_frames
        return speed if enough else 1.0

    def _validates(self, piece: Piece) -> bool:
        return share(self._settings.seed, piece.utterance_id) < self._settings.valid_fraction

    def validation(self) -> list[CropTicket]:
        """Give the validation micro-batches: utterances of a random order of shards until there are enough minutes."""
        settings = self._settings
        if settings.valid_fraction == 0:
            return []
        units = self._utterances.units
        left = settings.valid_minutes * 60 * settings.clock.sample_rate
        chosen: list[Piece] = []
        for place in rng(settings.seed, "validation units").permutation(len(units)):
            if left <= 0:
                break
            for piece in self._utterances.pieces([units[place]]):
                if self._validates(piece) and piece.num_frames >= settings.min_frames:
                    chosen.append(piece)
                    left -= settings.clock.num_samples(min(piece.num_frames, self._longest))
        groups = self._groups([piece.num_frames for piece in chosen], "validation")
        return [
            CropTicket(
                key=f"validation/{place}",
                pieces=tuple(chosen[row] for row in group.rows),
                speeds=(1.0,) * len(group.rows),
                num_frames=group.num_frames,
                training=False,
            )
            for place, group in enumerate(groups)
        ]

    def load(self, ticket: CropTicket, step: int) -> Tensors:
        """Decode, cut, augment and mask one micro-batch.

        Returns:
            ``waveform`` float32 (B, S), ``targets`` int64 (B, T, C), ``mask`` bool (B, T), and counts.
        """
        rows = [
            self._row(piece, speed, ticket, step) for piece, speed in zip(ticket.pieces, ticket.speeds, strict=True)
        ]
        waveform_BS, targets_BTC, mask_BT = (np.stack(column) for column in zip(*rows, strict=True))
        masked = int(mask_BT.sum())
        return {
            "waveform": torch.from_numpy(waveform_BS),
            "targets": torch.from_numpy(targets_BTC.astype(np.int64)),
            "mask": torch.from_numpy(mask_BT),
            f"count_{MASKED}": torch.tensor(float(masked)),
            f"count_{UNMASKED}": torch.tensor(float(mask_BT.size - masked)),
            "seconds": torch.tensor(waveform_BS.size / self._settings.clock.sample_rate, dtype=torch.float64),
        }

    def _row(
        self, piece: Piece, speed: float, ticket: CropTicket, step: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        settings = self._settings
        chance = rng(settings.seed, "crop", piece.key, step)
        cropped = crop(settings.clock, piece.num_frames, ticket.num_frames, speed, chance)
        heard = self._waveforms(piece)[cropped.first_sample : cropped.first_sample + cropped.num_samples]
        waveform = change_speed(heard, speed, settings.clock.num_samples(ticket.num_frames))
        if ticket.training:
            waveform = self._augmenter(waveform, chance)
        targets = piece.tokens[token_index(settings.clock, cropped, piece.num_frames)]
        mask = span_mask(
            ticket.num_frames,
            probability=settings.mask_probability,
            length=settings.mask_length,
            rng=rng(settings.seed, "mask", piece.key, step),
        )
        return np.ascontiguousarray(waveform, dtype=np.float32), targets, mask

    def close(self) -> None:
        """End the decoding process."""
        self._waveforms.close()
