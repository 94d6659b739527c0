"""Utterances with their tokens and their audio, pool by pool: what micro-batches are made of.

A pool is as many shards as hold the hours among which utterances are shuffled; an epoch is every pool once, its shards
in random order. Memory: the tokens of two pools, and decoded audio up to a budget.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.loading import PLACE, Manifest, decode_arguments
from pipeline.errors import DatasetError
from pipeline.features.encoders.encoder import VARIANCE_FLOOR
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_unit
from pipeline.training.recipe import rng

MAX_SECONDS = 60.0
"""Longer utterances are cut into pieces of this length, so that a crop never costs the decoding of an hour."""
MOST_SECONDS = 3600.0
"""Audio of noises, or of rooms, that each worker holds in memory: 230 MB."""
_OPEN_UNITS = 64

logger = logging.getLogger(__name__)


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


def share(seed: int, utterance_id: str) -> float:
    """Give an utterance's place in [0, 1): which of two sets it belongs to, whatever else there is."""
    digest = hashlib.blake2b(f"{seed}\0validation\0{utterance_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


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


class Waveforms:
    """Decodes pieces, and keeps what it decoded up to a budget; several threads may ask for them."""

    def __init__(self, clock: Clock, roots: tuple[str, ...], *, normalize: bool, cache_bytes: int) -> None:
        """Prepare to decode; the child process starts at the first waveform.

        Args:
            clock: The encoder's frames.
            roots: Where audio must lie.
            normalize: Whether the encoder wants zero mean and unit variance.
            cache_bytes: Decoded audio to keep.
        """
        self._clock = clock
        self._normalize = normalize
        self._limits = DecodeLimits(max_seconds=2 * MAX_SECONDS)
        self._decoder = Decoder(sample_rate=clock.sample_rate, limits=self._limits, roots=roots)
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._left = cache_bytes
        self._lock = threading.Lock()

    def __call__(self, piece: Piece) -> np.ndarray:
        """Give the waveform of a piece.

        Returns:
            float32 (S,), normalised over the piece if the encoder wants it; S is at least what its frames hear.

        Raises:
            AudioDecodeError: The recording has become unreadable since it was tokenised.
            DatasetError: The recording has another number of frames than tokens.
        """
        samples = self._kept.get(piece.key)
        if samples is None:
            samples = self._decoder.decode(**decode_arguments(self._place(piece)))
            self._check(piece, len(samples))
            self._keep(piece.key, samples)
        waveform = to_float32(samples)
        if self._normalize:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + np.float32(VARIANCE_FLOOR))
        return waveform

    def close(self) -> None:
        """End the decoding process."""
        self._decoder.close()

    def _place(self, piece: Piece) -> Mapping[str, Any]:
        if piece.whole:
            return piece.place
        rate, place = piece.place["sample_rate"], piece.place
        first = piece.first_frame * self._clock.hop_length * rate // self._clock.sample_rate
        # A few samples more, because resampling rounds; the recording ends where it ends.
        wanted = self._clock.num_samples(piece.num_frames) * rate // self._clock.sample_rate + 8
        return {
            **place,
            "offset_samples": place["offset_samples"] + first,
            "num_samples": min(wanted, place["num_samples"] - first),
        }

    def _check(self, piece: Piece, num_samples: int) -> None:
        found = self._clock.num_frames(num_samples)
        if found < piece.num_frames or (piece.whole and found != piece.num_frames):
            raise DatasetError(
                f"{piece.utterance_id} has {piece.num_frames} tokens, and {found} frames in its recording "
                f"{piece.place['uri']}; were the tokens made from this recording, by an encoder of the same frames?"
            )

    def _keep(self, key: str, samples: np.ndarray) -> None:
        with self._lock:
            if key not in self._kept:
                self._left -= samples.nbytes
            self._kept[key] = samples
            while self._left < 0:
                self._left += self._kept.popitem(last=False)[1].nbytes


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
            for row in opened.rows(unit).select(list(PLACE)).to_pylist():
                if seconds >= most_seconds:
                    return found
                found.append(to_float32(decoder.decode(**decode_arguments(row))))
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
