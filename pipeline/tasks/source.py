"""Micro-batches of a task: utterances with the tokens (or features) of their layers, and what is to be said of them.

Training may see crops, evaluation sees whole utterances. Everything is keyed by seed, utterance and step, so a
micro-batch is the same on any worker, in any run.

Letters: B batch, T frames, L layers, D feature width.
"""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.batches.clean import CleanPieces, NoisyUtterances
from pipeline.batches.collate import pad_rows
from pipeline.batches.cropping import crop_piece
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.pools import BatchTicket, HeldOut, Pools, PoolSettings
from pipeline.batches.sides import VALIDATION, Sides
from pipeline.batches.utterances import Utterances
from pipeline.seeds import rng
from pipeline.training.recipe import Json, Tensors

CLEAN = "clean"
"""Name of the clean tokens in a micro-batch of a task that enhances, int64 (B, T, L)."""
FRAMES = "frames"
"""Name of the tokens or features in a micro-batch: ``frames``, ``frames_lengths``, ``frames_mask``."""
PRESENT = f"{FRAMES}_present"
"""Name of what says which layers each frame has, bool (B, T, L); where it is absent, all."""


class Targets(abc.ABC):
    """What a task predicts, as tensors. It travels to the workers, so it holds plain values."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """Column of the manifest that it comes from."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Label columns without which an utterance is of no use."""
        return (self.label,)

    @abc.abstractmethod
    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give the targets of a micro-batch, from the labels of its utterances."""

    def of(self, pieces: Sequence[Piece]) -> Tensors:
        """Give the targets of a micro-batch, from its utterances; from the label alone, where a task needs no more."""
        return self.tensors([str(piece.labels[self.label]) for piece in pieces])

    def laid(self, rows: Sequence[np.ndarray]) -> Tensors:
        """Lay tokens (T, L) or features (T, L, D) side by side; a task may have another order of its frames."""
        return pad_rows(rows).tensors(FRAMES)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """What a source reads and how it cuts it.

    Attributes:
        manifest: Manifest dataset.
        tokens: Tokens dataset; None where features are read.
        columns: Its columns, one per layer.
        features: Features dataset of every frame; None where tokens are read.
        layers: Its layers.
        clock: The encoder's frames.
        sides: Which utterances are trained on, and which are held out.
        labels: Label columns that sides and targets look at.
        seed: Of order and crops.
        max_samples: Samples of one micro-batch at most, by the encoder's clock.
        crop_frames: Frames of a crop in training; None trains on whole utterances.
        longest: Frames of an utterance at most, where it must be whole.
        min_frames: Utterances of fewer frames are left out.
        shuffle_hours: Hours of audio among which utterances are shuffled and sorted by length.
        valid_minutes: Audio that validation is computed on at most, minutes.
        clean: What is read of the clean recordings that ``clean_uri`` names; None where a task has no use for them.
    """

    manifest: str
    tokens: str | None
    columns: tuple[str, ...]
    features: str | None
    layers: tuple[int, ...]
    clock: Clock
    sides: Sides
    labels: tuple[str, ...]
    seed: int
    max_samples: int
    crop_frames: int | None
    longest: int
    min_frames: int
    shuffle_hours: float
    valid_minutes: float
    clean: PieceSettings | None = None

    def pieces(self) -> PieceSettings:
        """Say what of the datasets is read: whole utterances."""
        return PieceSettings(
            manifest=self.manifest,
            clock=self.clock,
            tokens=self.tokens,
            columns=self.columns,
            features=self.features,
            layers=self.layers,
            labels=self.labels,
            max_seconds=None,
        )


class TaskSource:
    """Utterances of a task; see ``pipeline.training.recipe.Source``."""

    def __init__(self, data: TaskData, targets: Targets) -> None:
        """Open the datasets.

        Args:
            data: What to read and how to cut it.
            targets: What is predicted.
        """
        self._data, self._targets = data, targets
        clean = None if data.clean is None else CleanPieces(Utterances(data.clean))
        utterances = Utterances(data.pieces()) if clean is None else NoisyUtterances(data.pieces(), clean)
        whole = PoolSettings(
            seed=data.seed,
            shuffle_hours=data.shuffle_hours,
            max_samples=data.max_samples,
            longest=data.longest,
            min_frames=data.min_frames,
            pad=True,
            needed=targets.needed,
        )
        self._held_out = Pools(utterances, data.sides, whole)
        cropped = whole if data.crop_frames is None else replace(whole, longest=data.crop_frames, pad=False)
        self._training = Pools(utterances, data.sides, cropped)
        self._clean = clean

    def tickets(self, cursor: Json) -> Iterator[tuple[BatchTicket, Json]]:
        """Give micro-batches without end; see ``Pools.tickets``."""
        return self._training.tickets(cursor)

    def validation(self) -> dict[str, Sequence[BatchTicket]]:
        """Give the micro-batches of validation, of whole utterances."""
        tickets = self.held_out(VALIDATION, self._data.valid_minutes).tickets
        return {VALIDATION: tickets} if tickets else {}

    def held_out(self, side: str, minutes: float | None = None) -> HeldOut:
        """Give the micro-batches of a side that is not trained on; see ``Pools.held_out``."""
        return self._held_out.held_out(side, minutes)

    def load(self, ticket: BatchTicket, step: int) -> Tensors:
        """Lay the utterances of a micro-batch side by side.

        Returns:
            ``frames`` int64 (B, T, L) tokens or float16 (B, T, L, D) features, ``frames_lengths`` int64 (B,),
            ``frames_mask`` bool (B, T), and what the task predicts; ``clean`` int64 (B, T, L) where it enhances.

        Raises:
            DatasetError: An utterance has no clean partner of as many frames, where the task needs one.
        """
        pieces = [
            self._cut(piece, length, step) if ticket.training else piece
            for piece, length in zip(ticket.pieces, ticket.lengths, strict=True)
        ]
        rows = [piece.features if self._data.tokens is None else piece.tokens for piece in pieces]
        return {**self._targets.laid(rows), **self._targets.of(pieces), **self._partners(ticket, pieces)}

    def _partners(self, ticket: BatchTicket, pieces: Sequence[Piece]) -> Tensors:
        """Give the clean tokens of the same frames, where they are asked for."""
        if self._clean is None:
            return {}
        rows = []
        for whole, piece in zip(ticket.pieces, pieces, strict=True):
            partner = self._clean(whole)
            rows.append(partner.stretch(piece.first_frame - whole.first_frame, piece.num_frames).tokens)
        return {CLEAN: pad_rows(rows).tensors(CLEAN)[CLEAN]}

    def _cut(self, piece: Piece, num_frames: int, step: int) -> Piece:
        if num_frames == piece.num_frames:
            return piece
        chance = rng(self._data.seed, "crop", piece.key, step)
        found = crop_piece(piece, None, clock=self._data.clock, num_frames=num_frames, rng=chance)
        return piece.stretch(found.first_frame, num_frames)

    def close(self) -> None:
        """Let go of nothing: shards are read as they are asked for."""
