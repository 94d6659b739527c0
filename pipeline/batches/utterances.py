"""Utterances: a manifest joined with the tokens or features that were made from it, shard by shard.

Reads: the manifest, and tokens, features or both. Utterances without tokens (or features) are named; tokens of an
utterance that the manifest lacks are refused. Time: each shard is read and hashed once per epoch. Memory: the shards of
one pool, or 64 where they hold tokens alone: 0.36 MB per hour and column of tokens, 276 MB per hour and layer of
features of width 768.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.features.feature_rows import feature_rows
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_pieces, read_unit

_OPEN_SHARDS = 64

Arrays = Mapping[str, np.ndarray]
"""By utterance id: tokens uint16 (T, C), or features float16 (T, L, D)."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard, joined.

    Attributes:
        pieces: Its utterances that have tokens (and features), long ones in pieces.
        unmatched: Ids of the manifest's utterances that have none, as those that the encoder rejected.
    """

    pieces: tuple[Piece, ...]
    unmatched: tuple[str, ...]


class Utterances:
    """Opens the datasets and gives their shards; several threads may ask for them.

    Attributes:
        manifest: The manifest.
    """

    def __init__(self, settings: PieceSettings, *, open_shards: int | None = None) -> None:
        """Open the datasets.

        Args:
            settings: What to open.
            open_shards: Shards kept in memory at least, as for a caller who asks for single ones in any order; by
                default 64 where they hold tokens alone, else those of the latest call.

        Raises:
            SettingsError: A dataset lacks a column or layer asked for, or features are a sample of the frames.
        """
        self._settings = settings
        self.manifest = Manifest(settings.manifest)
        self._tokens, self._features = _open_tokens(settings), _open_features(settings)
        self._read: OrderedDict[str, Shard] = OrderedDict()
        self._least = open_shards or (_OPEN_SHARDS if settings.features is None else 0)
        self._lock = threading.Lock()

    @property
    def clock(self) -> Clock:
        """The encoder's frames."""
        return self._settings.clock

    @property
    def labels(self) -> tuple[str, ...]:
        """Label columns that pieces come with."""
        return self._settings.labels

    @property
    def uri(self) -> str:
        """The dataset whose utterances come: tokens, or features where there are no tokens."""
        return self._dataset.uri

    @property
    def units(self) -> list[str]:
        """Names of the shards."""
        return list(self._dataset.plan.units)

    @property
    def seconds(self) -> float:
        """Seconds of audio in all shards."""
        return self.manifest.seconds

    @property
    def roots(self) -> tuple[str, ...]:
        """Where audio must lie."""
        return tuple(self.manifest.roots)

    @property
    def _dataset(self) -> Dataset:
        dataset = self._tokens or self._features
        assert dataset is not None
        return dataset

    def shards(self, units: Sequence[str]) -> Iterator[Shard]:
        """Give some shards.

        Raises:
            CorruptDatasetError: A shard is damaged.
            DatasetError: Tokens or features name an utterance that the manifest lacks, or their frames differ.
        """
        for unit in units:
            yield self._opened(unit, max(self._least, len(units)))

    def pieces(self, units: Sequence[str]) -> Iterator[Piece]:
        """Give the pieces of some shards; see ``shards``."""
        for shard in self.shards(units):
            yield from shard.pieces

    def _opened(self, unit: str, most: int) -> Shard:
        with self._lock:
            if unit not in self._read:
                self._read[unit] = self._joined(unit)
                while len(self._read) > most:
                    self._read.popitem(last=False)
            self._read.move_to_end(unit)
            return self._read[unit]

    def _joined(self, unit: str) -> Shard:
        labels = self._settings.labels
        where = self.manifest.place_columns
        columns = list(dict.fromkeys([*where, *labels]))
        rows = {row["utterance_id"]: row for row in self.manifest.rows(unit).select(columns).to_pylist()}
        found = [
            (dataset, arrays)
            for dataset, arrays in ((self._tokens, self._tokens_of(unit)), (self._features, self._features_of(unit)))
            if dataset is not None
        ]
        for dataset, arrays in found:
            if absent := next((name for name in arrays if name not in rows), None):
                raise DatasetError(
                    f"{dataset.uri} has {dataset.plan.kind} of {absent}, {unit} of {self.manifest.dataset.uri} has it "
                    "not; were they made from this manifest?"
                )
        first = found[0][1]
        names = [name for name in first if all(name in arrays for _, arrays in found)]
        pieces: list[Piece] = []
        for name in names:
            arrays_of = {dataset.plan.kind: arrays[name] for dataset, arrays in found}
            pieces += self._cut(
                Piece(
                    utterance_id=name,
                    first_frame=0,
                    num_frames=_frames_of(name, arrays_of),
                    tokens=arrays_of.get("tokens", np.zeros((len(first[name]), 0), np.uint16)),
                    features=arrays_of.get("features", np.zeros((len(first[name]), 0, 0), np.float16)),
                    labels={label: rows[name][label] for label in labels},
                    place={column: rows[name][column] for column in where},
                    whole=True,
                )
            )
        matched = set(names)
        return Shard(pieces=tuple(pieces), unmatched=tuple(name for name in rows if name not in matched))

    def _tokens_of(self, unit: str) -> Arrays:
        if self._tokens is None:
            return {}
        table = read_unit(self._tokens, unit).select(["utterance_id", *self._settings.columns])
        columns = [table[name].combine_chunks() for name in self._settings.columns]
        sizes = self._tokens.plan.lineage["num_clusters"]
        for name, column in zip(self._settings.columns, columns, strict=True):
            _check_ids(name, column, sizes[name], table["utterance_id"], f"{self._tokens.uri}/{unit}")
        return {
            name: np.stack([column[row].values.to_numpy() for column in columns], axis=1)
            for row, name in enumerate(table["utterance_id"].to_pylist())
        }

    def _features_of(self, unit: str) -> Arrays:
        if self._features is None:
            return {}
        layers, dim = self._settings.layers, self._features.plan.lineage["dim"]
        # A long recording has a row per stretch.
        parts: dict[str, list[np.ndarray]] = {}
        for table in read_pieces(self._features, unit):
            for row in feature_rows(table, layers, dim, f"{self._features.uri}/{unit}"):
                held = parts.setdefault(row.utterance_id, [])
                if row.first_frame != sum(map(len, held)):
                    raise DatasetError(
                        f"{self._features.uri}: frame {row.first_frame} of {row.utterance_id} does not follow the one "
                        "before it; run verify_dataset"
                    )
                held.append(np.stack([row.cells[layer] for layer in layers], axis=1))
        return {name: np.concatenate(held) if len(held) > 1 else held[0] for name, held in parts.items()}

    def _cut(self, whole: Piece) -> Iterator[Piece]:
        clock, seconds = self._settings.clock, self._settings.max_seconds
        most = whole.num_frames if seconds is None else clock.num_frames(int(seconds * clock.sample_rate))
        if whole.num_frames <= most:
            yield whole
            return
        for first in range(0, whole.num_frames, most):
            yield whole.stretch(first, most)


def _check_ids(name: str, column: pa.ListArray, size: int, utterance_ids: pa.ChunkedArray, where: str) -> None:
    """Refuse a column of tokens that has an id of no cluster."""
    values = column.values.to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(values >= size)
    if not len(wrong):
        return
    row = int(np.searchsorted(column.offsets.to_numpy(), wrong[0], side="right")) - 1
    raise CorruptDatasetError(
        f"{where}: {utterance_ids[row]} has the token {values[wrong[0]]} in {name}, whose ids are 0 to {size - 1}; "
        "tokenise the corpus again"
    )


def _frames_of(name: str, arrays: Arrays) -> int:
    counts = {kind: len(array) for kind, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = " and ".join(f"{count} frames of {kind}" for kind, count in counts.items())
        raise DatasetError(f"{name} has {told}; were both made from this manifest by the same encoder?")
    return next(iter(counts.values()))


def _open_tokens(settings: PieceSettings) -> Dataset | None:
    if settings.tokens is None:
        return None
    dataset = Dataset.open(settings.tokens, kind="tokens")
    there = dataset.plan.lineage["num_clusters"]
    if absent := sorted(set(settings.columns) - set(there)):
        raise SettingsError(f"{settings.tokens} has the columns {', '.join(there)}, not {', '.join(absent)}")
    return dataset


def _open_features(settings: PieceSettings) -> Dataset | None:
    if settings.features is None:
        return None
    dataset = Dataset.open(settings.features, kind="features")
    lineage = dataset.plan.lineage
    if absent := sorted(set(settings.layers) - set(lineage["layers"])):
        raise SettingsError(f"{settings.features} has the layers {lineage['layers']}, not {absent}")
    if "strata_sha256" in lineage or lineage["sample_fraction"] != 1:
        raise SettingsError(
            f"{settings.features} holds a sample of the frames, which are no sequences; extract every frame"
        )
    return dataset
