"""Pools: in which order utterances come, epoch after epoch, in micro-batches that any worker could load.

A pool is as many shards as hold the hours among which utterances are shuffled; an epoch is every pool once, its shards
in random order. Within a pool, utterances of about one length share a micro-batch (``groups.py``). The order follows
from the seed and the datasets alone: every worker draws the same tickets, and a cursor goes on exactly after the ticket
that it came with. What is left out is counted in the cursor, by reason, in the first epoch.

Time: drawing reads each shard once per epoch. Memory: the pieces of one pool (``utterances.py``), and what tickets that
were drawn still hold.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.batches.augment import AugmentSettings, draw_speed
from pipeline.batches.crops import longest_crop
from pipeline.batches.groups import Group, group_by_length
from pipeline.batches.pieces import Piece
from pipeline.batches.sides import TRAIN, Sides
from pipeline.batches.utterances import Utterances
from pipeline.errors import DatasetError, SettingsError
from pipeline.seeds import rng

TOO_SHORT = "too_short"
"""Utterances, or ends of long ones, of too few frames."""
TOO_LONG = "too_long"
"""Utterances of too many frames, where they are padded and so must not be cut."""
NO_LABEL = "no_label"
"""Utterances without a label that is needed."""
NO_SIDE = "no_side"
"""Utterances that are on no side."""
UNMATCHED = "unmatched"
"""Utterances of the manifest without tokens or features, whichever side they would be on."""
REASONS = {
    TOO_SHORT: "too short",
    TOO_LONG: "too long",
    NO_LABEL: "without a label",
    NO_SIDE: "on no side",
    UNMATCHED: "without tokens or features",
}
"""Why an utterance is left out, and how a report says so."""

logger = logging.getLogger(__name__)

Cursor = Any
"""JSON: epoch, pool, micro-batch, and a count by reason; None is the beginning."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How utterances become micro-batches.

    Attributes:
        seed: Of the order.
        shuffle_hours: Hours of audio among which utterances are shuffled and sorted by length.
        max_samples: Samples of one micro-batch at most, by the encoder's clock; one utterance alone may pass it.
        longest: Frames of one utterance at most.
        min_frames: Utterances of fewer frames are left out.
        pad: Whether micro-batches are padded to their longest utterance. Else they are cut, to ``longest`` and to the
            shortest.
        cut: Whether utterances longer than ``longest`` are cut to it where micro-batches are padded; else they are left
            out, as where a label says something of all of an utterance.
        needed: Label columns without which an utterance is left out.
    """

    seed: int
    shuffle_hours: float
    max_samples: int
    longest: int
    min_frames: int = 1
    pad: bool = False
    cut: bool = False
    needed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.shuffle_hours > 0:
            raise SettingsError(f"shuffle_hours must be above 0, got {self.shuffle_hours}")
        for name in ("max_samples", "longest", "min_frames"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class BatchTicket:
    """A micro-batch of utterances of about one length.

    Attributes:
        key: What tells it from all others.
        pieces: The utterances.
        speeds: How fast each is played.
        lengths: Frames of each in the micro-batch: all the same where they are cut.
        training: Whether it may be augmented.
    """

    key: str
    pieces: tuple[Piece, ...]
    speeds: tuple[float, ...]
    lengths: tuple[int, ...]
    training: bool

    @property
    def num_frames(self) -> int:
        """Frames of the micro-batch (T)."""
        return max(self.lengths)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The micro-batches of a side that is not trained on.

    Attributes:
        tickets: They, always the same.
        left_out: What was left out of the shards that were read, by reason.
    """

    tickets: tuple[BatchTicket, ...]
    left_out: dict[str, int]


def left_out_lines(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Say what was left out, for a report: label and value of each reason that occurred.

    Args:
        counts: A cursor, or ``HeldOut.left_out``.
    """
    return [(f"{label}, left out", f"{counts[reason]:,}") for reason, label in REASONS.items() if counts.get(reason)]


class Pools:
    """Draws the micro-batches of each side."""

    def __init__(
        self, utterances: Utterances, sides: Sides, settings: PoolSettings, augment: AugmentSettings | None = None
    ) -> None:
        """Take the utterances.

        Args:
            utterances: They, with the labels that sides and ``needed`` look at.
            sides: Which are trained on.
            settings: How they become micro-batches.
            augment: How fast they are played in training; None: as they are.

        Raises:
            SettingsError: Utterances come without a label that is looked at.
        """
        if absent := sorted({*sides.columns, *settings.needed} - set(utterances.labels)):
            raise SettingsError(
                f"sides and needed labels look at {', '.join(absent)}, which the pieces of {utterances.uri} come "
                "without; name them in labels"
            )
        self._utterances, self._sides, self._settings = utterances, sides, settings
        self._augment = augment or AugmentSettings()

    def tickets(self, cursor: Cursor) -> Iterator[tuple[BatchTicket, Cursor]]:
        """Give the micro-batches of training without end.

        Args:
            cursor: Where to begin, as it came with a ticket; None is the beginning.

        Yields:
            A ticket, and the cursor that begins after it.

        Raises:
            DatasetError: A whole epoch has none.
        """
        start = cursor or {"epoch": 0, "pool": 0, "batch": 0, **dict.fromkeys(REASONS, 0)}
        epoch, pool, first = start["epoch"], start["pool"], start["batch"]
        left_out = Counter({reason: start[reason] for reason in REASONS})
        while True:
            pools = self._pools(epoch)
            empty = pool == 0
            for number in range(pool, len(pools)):
                pieces, missing = self._read(pools[number], TRAIN)
                if epoch == 0 and first == 0:
                    left_out.update(missing)
                found = self._training(epoch, number, pieces)
                empty = empty and not found
                counts = {reason: left_out[reason] for reason in REASONS}
                for place in range(first, len(found)):
                    yield found[place], {"epoch": epoch, "pool": number, "batch": place + 1, **counts}
                first = 0
            if empty:
                raise DatasetError(self._nothing(left_out))
            epoch, pool = epoch + 1, 0

    def held_out(self, side: str, minutes: float | None = None) -> HeldOut:
        """Give the micro-batches of a side that is not trained on.

        Args:
            side: Its name.
            minutes: Audio at most, from a random order of shards, but for the rest of the last one; None: all.
        """
        if side not in self._sides.held_out:
            return HeldOut(tickets=(), left_out={})
        settings, utterances = self._settings, self._utterances
        left = math.inf if minutes is None else minutes * 60 * utterances.clock.sample_rate
        chosen: list[Piece] = []
        left_out: Counter[str] = Counter()
        for place in rng(settings.seed, f"{side} units").permutation(len(utterances.units)):
            if left <= 0:
                break
            pieces, missing = self._read([utterances.units[place]], side)
            left_out.update(missing)
            chosen += pieces
            left -= sum(utterances.clock.num_samples(min(piece.num_frames, settings.longest)) for piece in pieces)
        groups = self._groups([piece.num_frames for piece in chosen], side)
        tickets = (
            _ticket(f"{side}/{place}", group, chosen, [1.0] * len(chosen), training=False)
            for place, group in enumerate(groups)
        )
        found = HeldOut(tickets=tuple(tickets), left_out=dict(left_out))
        told = "; ".join(f"{label} {count}" for label, count in left_out_lines(left_out)) or "none left out"
        logger.info("%s: %d micro-batches of %d utterances; %s", side, len(found.tickets), len(chosen), told)
        return found

    def _pools(self, epoch: int) -> list[list[str]]:
        """Divide the shards of an epoch, in its order, into pools of about equal hours."""
        settings, units = self._settings, self._utterances.units
        order = rng(settings.seed, "units", epoch).permutation(len(units))
        hours = self._utterances.seconds / 3600
        count = min(len(units), max(1, math.ceil(hours / settings.shuffle_hours)))
        return [[units[place] for place in part] for part in np.array_split(order, count)]

    def _read(self, units: Sequence[str], side: str) -> tuple[list[Piece], Counter[str]]:
        """Give the pieces of a side that can be used, and count the others by reason."""
        kept: list[Piece] = []
        left_out: Counter[str] = Counter()
        for shard in self._utterances.shards(units):
            left_out[UNMATCHED] += len(shard.unmatched)
            for piece in shard.pieces:
                found = self._sides.side(piece.utterance_id, piece.labels)
                if found is None:
                    left_out[NO_SIDE] += 1
                elif found == side:
                    reason = self._unusable(piece)
                    if reason is None:
                        kept.append(piece)
                    else:
                        left_out[reason] += 1
        return kept, left_out

    def _unusable(self, piece: Piece) -> str | None:
        settings = self._settings
        if piece.num_frames < settings.min_frames:
            return TOO_SHORT
        if settings.pad and not settings.cut and (piece.num_frames > settings.longest or not piece.whole):
            return TOO_LONG
        if any(piece.labels[name] is None for name in settings.needed):
            return NO_LABEL
        return None

    def _training(self, epoch: int, number: int, pieces: Sequence[Piece]) -> list[BatchTicket]:
        clock = self._utterances.clock
        speeds = [self._speed(piece, epoch) for piece in pieces]
        lengths = [longest_crop(clock, piece.num_frames, speed) for piece, speed in zip(pieces, speeds, strict=True)]
        return [
            _ticket(f"{epoch}/{number}/{place}", group, pieces, speeds, training=True)
            for place, group in enumerate(self._groups(lengths, f"{epoch}/{number}"))
        ]

    def _groups(self, lengths: Sequence[int], key: str) -> list[Group]:
        settings = self._settings
        return group_by_length(
            lengths,
            longest=settings.longest,
            size=self._utterances.clock.num_samples,
            most=settings.max_samples,
            rng=rng(settings.seed, "groups", key),
            pad=settings.pad,
        )

    def _speed(self, piece: Piece, epoch: int) -> float:
        """Choose how fast an utterance is played; as it is where too little of it would be left."""
        settings = self._settings
        speed = draw_speed(self._augment, rng(settings.seed, "speed", piece.key, epoch))
        enough = longest_crop(self._utterances.clock, piece.num_frames, speed) >= settings.min_frames
        return speed if enough else 1.0

    def _nothing(self, left_out: Counter[str]) -> str:
        told = ", ".join(f"{reason} {count}" for reason, count in left_out.items() if count)
        return (
            f"{self._utterances.uri} leaves nothing to train on: no utterance has min_frames "
            f"{self._settings.min_frames} and is on the side {TRAIN}; left out were: {told or 'none'}"
        )


def _ticket(key: str, group: Group, pieces: Sequence[Piece], speeds: Sequence[float], *, training: bool) -> BatchTicket:
    return BatchTicket(
        key=key,
        pieces=tuple(pieces[row] for row in group.rows),
        speeds=tuple(speeds[row] for row in group.rows),
        lengths=group.lengths,
        training=training,
    )
