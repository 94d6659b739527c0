"""Micro-batches of a vocoder: crops of utterances, with the samples that belong to their frames.

Frames a to b of an utterance are its samples a * hop to b * hop, in any crop: the last samples of a recording, which
its last frame may hear beyond its hop, belong to none. A crop that is shorter than the longest of its micro-batch is
padded with zeros and masked. Crops and dropped layers are keyed by seed, utterance and step, so a micro-batch is the
same on any worker, in any run.

Letters: B batch, T frames, L layers, S samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from pipeline.audio.clock import Clock
from pipeline.batches.collate import pad_rows
from pipeline.batches.cropping import CroppedPiece, crop_piece
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.pools import BatchTicket, Pools, PoolSettings
from pipeline.batches.sides import VALIDATION, Sides
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.metrics.speech.judge import Library
from pipeline.seeds import rng, torch_seed
from pipeline.training.recipe import Json, Tensors
from pipeline.vocoder.layer_dropout import draw_layers
from pipeline.vocoder.speaker_vectors import SpeakerVectors
from pipeline.vocoder.spec import VocoderSpec
from pipeline.vocoder.training.settings import TrainVocoderConfig

FRAMES = "frames"
"""Name of the tokens in a micro-batch: ``frames``, ``frames_lengths``, ``frames_mask``."""
WAVEFORM = "waveform"
PRESENT = "present"
SPEAKER = "speaker"
JUDGED = "judged"
"""Name of what says whether discriminators have a part in this step."""


@dataclass(frozen=True, kw_only=True)
class VocoderData:
    """What a source reads and how it cuts it.

    Attributes:
        manifest: Manifest dataset.
        tokens: Tokens dataset made from it.
        columns: Its columns, one per layer (L).
        clock: The encoder's hops: ``Clock.of_hops``.
        sides: Which utterances are trained on, and which are held out.
        seed: Of order, crops and dropped layers.
        crop_frames: Frames of a crop in training.
        valid_frames: Frames of a crop in validation.
        min_frames: Utterances of fewer frames are left out.
        max_samples: Samples of one micro-batch at most.
        shuffle_hours: Hours of audio among which utterances are shuffled and sorted by length.
        valid_minutes: Audio that validation is computed on at most, minutes.
        cache_bytes: Decoded audio to keep.
        layer_dropout: Whether layers are dropped in training.
        judged_from: Step from which discriminators have a part.
        speakers: Who has a number, where speakers are a table; empty for the others.
        speaker_encoder: What gives the vector of each utterance, where speakers are vectors.
    """

    manifest: str
    tokens: str
    columns: tuple[str, ...]
    clock: Clock
    sides: Sides
    seed: int
    crop_frames: int
    valid_frames: int
    min_frames: int
    max_samples: int
    shuffle_hours: float
    valid_minutes: float
    cache_bytes: int
    layer_dropout: bool
    judged_from: int
    speakers: tuple[str, ...] = ()
    speaker_encoder: Library | None = None

    @classmethod
    def of(cls, config: TrainVocoderConfig, spec: VocoderSpec, sides: Sides) -> Self:
        """Say what the source of a training reads.

        Args:
            config: Settings of the training.
            spec: Of the vocoder.
            sides: Of the manifest.
        """
        data, rate, hop = config.data, spec.sample_rate, spec.hop_length
        clock = Clock(sample_rate=rate, hop_length=hop, receptive_field=hop)
        return cls(
            manifest=data.manifest,
            tokens=data.tokens,
            columns=spec.columns,
            clock=clock,
            sides=sides,
            seed=config.training.seed,
            crop_frames=clock.num_frames(int(data.crop_seconds * rate)),
            valid_frames=clock.num_frames(int(data.valid_seconds * rate)),
            min_frames=data.min_frames,
            max_samples=int(data.batch_seconds * rate),
            shuffle_hours=data.shuffle_hours,
            valid_minutes=data.valid_minutes,
            cache_bytes=int(data.cache_gb * 1e9),
            layer_dropout=spec.settings.layer_dropout,
            judged_from=config.discriminators_from,
            speakers=spec.speakers,
            speaker_encoder=spec.speaker_encoder,
        )


class VocoderSource:
    """Crops with their samples; see ``pipeline.training.recipe.Source``.

    Memory: decoded audio as ``data`` says, and 1 KB per utterance where speakers are vectors.
    """

    def __init__(self, data: VocoderData) -> None:
        """Open the datasets.

        Args:
            data: What to read and how to cut it.

        Raises:
            SettingsError: Speakers are vectors, and their encoder is not the one installed here.
        """
        self._data = data
        self._vectors = None if data.speaker_encoder is None else SpeakerVectors(data.speaker_encoder)
        self._found: dict[str, np.ndarray] = {}
        self._numbers = {name: number for number, name in enumerate(data.speakers)}
        needed = (SPEAKER,) if data.speakers else ()
        utterances = Utterances(
            PieceSettings(
                manifest=data.manifest,
                clock=data.clock,
                tokens=data.tokens,
                columns=data.columns,
                labels=tuple(dict.fromkeys([*data.sides.columns, *needed])),
            )
        )
        self._waveforms = Waveforms(
            data.clock, utterances.roots, normalize=False, cache_bytes=data.cache_bytes, spare_frames=1
        )
        training = PoolSettings(
            seed=data.seed,
            shuffle_hours=data.shuffle_hours,
            max_samples=data.max_samples,
            longest=data.crop_frames,
            min_frames=data.min_frames,
            pad=True,
            cut=True,
            needed=needed,
        )
        self._training = Pools(utterances, data.sides, training)
        self._held_out = Pools(utterances, data.sides, replace(training, longest=data.valid_frames))

    def tickets(self, cursor: Json) -> Iterator[tuple[BatchTicket, Json]]:
        """Give micro-batches without end; see ``Pools.tickets``."""
        return self._training.tickets(cursor)

    def validation(self) -> dict[str, Sequence[BatchTicket]]:
        """Give the micro-batches of validation, the one with most speech first: it is shown.

        The crop of an utterance is always the same one.
        """
        tickets = self._held_out.held_out(VALIDATION, self._data.valid_minutes).tickets
        return {VALIDATION: sorted(tickets, key=lambda ticket: -sum(ticket.lengths))} if tickets else {}

    def load(self, ticket: BatchTicket, step: int) -> Tensors:
        """Decode and cut one micro-batch.

        Returns:
            ``frames`` int64 (B, T, L), ``frames_lengths`` int64 (B,), ``frames_mask`` bool (B, T), ``waveform`` float32
            (B, hop * T), 0 in padding, ``present`` bool (B, L), ``judged`` bool, and ``speaker``: int64 (B,) of a
            table, float32 (B, 256) of vectors.
        """
        cuts = [self._cut(piece, length, step) for piece, length in zip(ticket.pieces, ticket.lengths, strict=True)]
        crops = [crop for crop, _ in cuts]
        waveforms = [np.asarray(found.waveform, dtype=np.float32) for found in crops]
        batch = pad_rows([found.tokens for found in crops]).tensors(FRAMES)
        batch[WAVEFORM] = torch.from_numpy(pad_rows(waveforms).values)
        batch[PRESENT] = torch.stack([self._layers(piece, step, training=ticket.training) for piece in ticket.pieces])
        batch[JUDGED] = torch.tensor(step >= self._data.judged_from)
        if self._data.speakers:
            batch[SPEAKER] = torch.tensor([self._numbers[str(piece.labels[SPEAKER])] for piece in ticket.pieces])
        if self._vectors is not None:
            batch[SPEAKER] = torch.from_numpy(np.stack([vector for _, vector in cuts if vector is not None]))
        return batch

    def _cut(self, piece: Piece, num_frames: int, step: int) -> tuple[CroppedPiece, np.ndarray | None]:
        """Give a crop of an utterance, and the vector of all of it where speakers are vectors."""
        data = self._data
        waveform = self._waveforms(piece)
        chance = rng(data.seed, "crop", piece.key, step)
        cropped = crop_piece(piece, waveform, clock=data.clock, num_frames=num_frames, rng=chance)
        return cropped, self._vector(piece, waveform)

    def _vector(self, piece: Piece, waveform: np.ndarray) -> np.ndarray | None:
        if self._vectors is None:
            return None
        # Two threads that ask at once compute the same.
        if (vector := self._found.get(piece.key)) is None:
            vector = self._found[piece.key] = self._vectors(waveform[: piece.num_frames * self._data.clock.hop_length])
        return vector

    def _layers(self, piece: Piece, step: int, *, training: bool) -> torch.Tensor:
        """Say which layers of an utterance are heard: bool (L,)."""
        data = self._data
        if not (training and data.layer_dropout):
            return torch.ones(len(data.columns), dtype=torch.bool)
        chance = torch.Generator().manual_seed(torch_seed(data.seed, "layers", piece.key, step))
        return draw_layers(1, len(data.columns), chance)[0]

    def close(self) -> None:
        """End the decoding process."""
        self._waveforms.close()
