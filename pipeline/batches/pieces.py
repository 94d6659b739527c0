"""Utterances with their tokens and their audio, pool by pool: what micro-batches are made of.

A pool is as many shards as hold the hours among which utterances are shuffled; an epoch is every pool once, its shards
in random order. Memory: the tokens of two pools, and decoded audio up to a budget.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.loading import PLACE, Manifest
from pipeline.errors import DatasetError
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_unit

MAX_SECONDS = 60.0
"""Longer utterances are cut into pieces of this length, so that a crop never costs the decoding of an hour."""
_OPEN_UNITS = 64


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An utterance, or a stretch of a long one, with its tokens.

    Attributes:
        utterance_id: Its id.
        first_frame: Frame of the utterance at which it begins.
        tokens: uint16 (T, C), a column for each target.
        place: Where its recording lies: the ``PLACE`` of a manifest's row.
        whole: Whether it is the whole utterance.
    """

    utterance_id: str
    first_frame: int
    tokens: np.ndarray
    place: Mapping[str, Any]
    whole: bool

    @property
    def num_frames(self) -> int:
        """Frames (T)."""
        return len(self.tokens)

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.utterance_id}@{self.first_frame}"


class Utterances:
    """A manifest and the tokens made from it; several threads may ask for them."""

    def __init__(self, manifest: str, tokens: str, columns: Sequence[str], clock: Clock) -> None:
        """Open both.

        Args:
            manifest: Manifest dataset.
            tokens: Tokens dataset made from it.
            columns: Columns of tokens to give.
            clock: The encoder's frames.
        """
        self._manifest = Manifest(manifest)
        self._tokens = Dataset.open(tokens, kind="tokens")
        self._columns = list(columns)
        self._clock = clock
        self._read: OrderedDict[str, list[Piece]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def units(self) -> list[str]:
        """Names of the shards."""
        return list(self._tokens.plan.units)

    @property
    def seconds(self) -> float:
        """Seconds of audio in all shards."""
        return self._manifest.seconds

    @property
    def roots(self) -> tuple[str, ...]:
        """Where audio must lie."""
        return tuple(self._manifest.roots)

    def pieces(self, units: Sequence[str]) -> Iterator[Piece]:
        """Give the utterances of some shards that have tokens, long ones in pieces.

        Raises:
            CorruptDatasetError: A shard is damaged.
            DatasetError: Tokens name an utterance that the manifest does not have.
        """
        for unit in units:
            yield from self._opened(unit, max(_OPEN_UNITS, len(units)))

    def _opened(self, unit: str, most: int) -> list[Piece]:
        with self._lock:
            if unit not in self._read:
                self._read[unit] = list(self._read_unit(unit))
                while len(self._read) > most:
                    self._read.popitem(last=False)
            self._read.move_to_end(unit)
            return self._read[unit]

    def _read_unit(self, unit: str) -> Iterator[Piece]:
        places = {row["utterance_id"]: row for row in self._manifest.rows(unit).select(list(PLACE)).to_pylist()}
        table = read_unit(self._tokens, unit).select(["utterance_id", *self._columns])
        ids = table["utterance_id"].to_pylist()
        columns = [table[name].combine_chunks() for name in self._columns]
        for row, utterance_id in enumerate(ids):
            if utterance_id not in places:
                raise DatasetError(
                    f"{self._tokens.uri} has tokens of {utterance_id}, {unit} of {self._manifest.dataset.uri} has it "
                    "not; were they made from this manifest?"
                )
            tokens_TC = np.stack([column[row].values.to_numpy() for column in columns], axis=1)
            yield from self._cut(utterance_id, tokens_TC, places[utterance_id])

    def _cut(self, utterance_id: str, tokens_TC: np.ndarray, place: Mapping[str, Any]) -> Iterator[Piece]:
        most = self._clock.num_frames(int(MAX_SECONDS * self._clock.sample_rate))
        whole = Piece(utterance_id=utterance_id, first_frame=0, tokens=tokens_TC, place=place, whole=True)
        if whole.num_frames <= most:
            yield whole
            return
        for first in range(0, whole.num_frames, most):
            yield replace(whole, first_frame=first, tokens=tokens_TC[first : first + most], whole=False)
