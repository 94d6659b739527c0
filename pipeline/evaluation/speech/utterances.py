"""The utterances that a vocoder is judged on: held out by its training, or all of a corpus that it never heard.

Letters: T frames, L layers, S samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.pools import Pools, PoolSettings
from pipeline.batches.sides import Sides, share
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.errors import SettingsError

MOST_SECONDS = 60.0
"""Longer utterances are left out: no judge is meant for them."""
LABELS = ("text", "speaker")


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """An utterance to judge.

    Attributes:
        piece: Its tokens uint16 (T, L), labels and place.
        waveform: Its recording, float32 (hop * T).
        other: The recording of another utterance of about the same length; None where there is no other.
    """

    piece: Piece
    waveform: np.ndarray
    other: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The utterances of an evaluation.

    Attributes:
        clock: Frames of the vocoder.
        pieces: They, in a fixed random order.
        left_out: How many could not be used, by reason.
        roots: Where recordings must lie.
    """

    clock: Clock
    pieces: tuple[Piece, ...]
    left_out: dict[str, int]
    roots: tuple[str, ...]

    def heard(self) -> Iterator[Judged]:
        """Decode them one after the other, each with another one.

        Raises:
            AudioDecodeError: A recording has become unreadable since it was tokenised.
            DatasetError: A recording is another now than the one that was tokenised.
        """
        waveforms = Waveforms(self.clock, self.roots, normalize=False, cache_bytes=0, spare_frames=1)

        def decoded(piece: Piece) -> np.ndarray:
            return np.ascontiguousarray(waveforms(piece)[: piece.num_frames * self.clock.hop_length], np.float32)

        nearest = self._nearest()
        try:
            for piece in self.pieces:
                other = nearest.get(piece.utterance_id)
                yield Judged(piece=piece, waveform=decoded(piece), other=None if other is None else decoded(other))
        finally:
            waveforms.close()

    def _nearest(self) -> dict[str, Piece]:
        """Give each utterance the next longer one, and the longest the one before it."""
        ordered = sorted(self.pieces, key=lambda piece: (piece.num_frames, piece.utterance_id))
        following = [*ordered[1:], *ordered[-2:-1]]
        return {piece.utterance_id: other for piece, other in zip(ordered, following, strict=False)}


def judged_set(
    *, manifest: str, tokens: str, columns: Sequence[str], clock: Clock, sides: Sides, side: str, count: int, seed: int
) -> JudgedSet:
    """Choose utterances by hash, so that every vocoder of the same tokens is judged on the same ones.

    Args:
        manifest: Manifest dataset.
        tokens: Tokens made from it.
        columns: Those of the vocoder that the tokens have.
        clock: Frames of the vocoder.
        sides: How the manifest is divided.
        side: The side to judge.
        count: Utterances at most.
        seed: Chooses them.

    Raises:
        SettingsError: The side leaves none.
    """
    labels = tuple(dict.fromkeys([*LABELS, *sides.columns]))
    pieces = PieceSettings(
        manifest=manifest, clock=clock, tokens=tokens, columns=tuple(columns), labels=labels, max_seconds=None
    )
    utterances = Utterances(pieces)
    longest = clock.num_frames(int(MOST_SECONDS * clock.sample_rate))
    pools = Pools(
        utterances,
        sides,
        PoolSettings(seed=seed, shuffle_hours=1.0, max_samples=1, longest=longest, pad=True),
    )
    held = pools.held_out(side)
    found = [piece for ticket in held.tickets for piece in ticket.pieces]
    if not found:
        raise SettingsError(f"{tokens} leaves no utterance of the side {side} to judge: {held.left_out}")
    found.sort(key=lambda piece: (share(0, f"judged {piece.utterance_id}"), piece.utterance_id))
    return JudgedSet(clock=clock, pieces=tuple(found[:count]), left_out=held.left_out, roots=utterances.roots)
