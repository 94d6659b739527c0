"""From a manifest shard to decoded utterances: what a CPU task does before the encoder."""

import functools
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import faults
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.pieces import decode_place, decoded_length, stream_place
from pipeline.errors import AudioDecodeError, CorruptDatasetError, DatasetError
from pipeline.passed_over import PassedOver
from pipeline.schema import PART, PIECES
from pipeline.store.completion import success
from pipeline.store.dataset import SUCCESS, Dataset, sha256, shard_name
from pipeline.store.reading import read_row_group, read_row_groups
from pipeline.store.storage import open_store
from pipeline.work.units import Utterance

INDEX = "_index.parquet"
PLACE = ("uri", "offset_samples", "num_samples", "sample_rate", "channel", "utterance_id", *PART)
"""The columns of a manifest that say what to decode."""

JOINED = "pieces"
"""The layout, in its lineage, of a manifest whose utterances are made of pieces."""

RECORDINGS = "recordings"
"""The note of a manifest's commits: how many of its utterances are ``whole`` files, and how many ``parts`` of files."""


def check_made(dataset: Dataset, manifest: Dataset) -> str:
    """Refuse a dataset that was made from another manifest, and give the hash of this one.

    Args:
        dataset: Tokens, or features.
        manifest: A finished manifest.

    Raises:
        DatasetError: It was.
    """
    found: str = success(manifest)["dataset_sha256"]
    if dataset.plan.content.get("input_sha256") != found:
        raise DatasetError(
            f"{dataset.uri} was made from another manifest than {manifest.uri}; give the one it was made from"
        )
    return found


class Manifest:
    """A finished manifest, read shard by shard.

    Attributes:
        dataset: The manifest's folder.
        roots: Folders and prefixes under which its audio must lie.
    """

    def __init__(self, uri: str) -> None:
        self.dataset = Dataset.open(uri, kind="manifest")
        self.roots: Sequence[str] = self.dataset.plan.lineage["roots"]
        try:
            index = self.dataset.store.read(INDEX)
        except FileNotFoundError as error:
            raise CorruptDatasetError(f"{uri}/{INDEX} is gone; run build_manifest in a new folder") from error
        if sha256(index) != success(self.dataset)["index_sha256"]:
            raise CorruptDatasetError(f"{uri}/{INDEX} is not what was written; run build_manifest in a new folder")
        self._index = pq.read_table(pa.BufferReader(index))
        self._position = {shard: row for row, shard in enumerate(self._index["shard"].to_pylist())}

    def check_made(self, dataset: Dataset) -> str:
        """Refuse a dataset that was made from another manifest, and give the hash of this one; see ``check_made``."""
        return check_made(dataset, self.dataset)

    @property
    def units(self) -> list[str]:
        """Names of the shards, in order."""
        return [shard_name(shard) for shard in self._index["shard"].to_pylist()]

    @property
    def strict(self) -> bool:
        """Whether it was built with ``--strict``, so that whoever reads it passes nothing over either."""
        return bool(self.dataset.plan.content.get("strict"))

    @property
    def joined(self) -> bool:
        """Whether its utterances are made of pieces (``concatenate_corpus``)."""
        return self.dataset.plan.lineage.get("layout") == JOINED

    @property
    def place_columns(self) -> tuple[str, ...]:
        """The columns that say what to decode."""
        return (*PLACE, PIECES.name) if self.joined else PLACE

    @property
    def length_columns(self) -> tuple[str, ...]:
        """The columns that ``decoded_lengths`` reads."""
        return ("num_samples", "sample_rate", PIECES.name) if self.joined else ("num_samples", "sample_rate")

    @property
    def num_rows(self) -> int:
        """Utterances in all shards."""
        return int(sum(self._index["num_rows"].to_pylist()))

    @property
    def seconds(self) -> float:
        """Seconds of audio in all shards, as headers tell."""
        return float(sum(self._index["seconds"].to_pylist()))

    @property
    def parts(self) -> int | None:
        """Utterances that are not all of a file: segments, channels, members of tars; None where nobody counted."""
        notes = [commit.notes[RECORDINGS] for commit in self.dataset.commits() if RECORDINGS in commit.notes]
        # The first file's commit counts for all.
        return sum(note["parts"] for note in notes) if notes else None

    def rows(self, unit: str) -> pa.Table:
        """Read the utterances of a shard."""
        place = self._index.slice(self._position[int(unit.removeprefix("shard-"))], 1).to_pylist()[0]
        file = place["file"].removesuffix(".parquet")
        return read_row_group(self.dataset, file, place["row_group"], place["footer_sha256"])

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Read some columns of every shard, in order, a shard at a time.

        Each file is opened once: the footer of 500,000 utterances is megabytes, and ``rows`` reads it for each shard.

        Yields:
            Name and rows of each shard.
        """
        for _, places in itertools.groupby(self._index.to_pylist(), key=lambda place: place["file"]):
            held = list(places)
            file, footer = held[0]["file"].removesuffix(".parquet"), held[0]["footer_sha256"]
            groups = read_row_groups(self.dataset, file, [place["row_group"] for place in held], footer, columns)
            for place, rows in zip(held, groups, strict=True):
                yield shard_name(place["shard"]), rows


def decoded_lengths(rows: pa.Table, sample_rate: int) -> np.ndarray:
    """Predict the samples of each utterance once it is decoded.

    Args:
        rows: Rows of a manifest, with its ``length_columns``.
        sample_rate: Rate of the waveforms that a decoder gives, Hz.

    Returns:
        int64 (N,), exact for what decodes to the length its header tells; an MP3 may give 0.15 s less at its end.
        Of joined utterances always exact: the sum of what each piece and each silence becomes.
    """
    if PIECES.name not in rows.column_names:
        counts, rates = (rows[name].to_numpy().astype(np.int64) for name in ("num_samples", "sample_rate"))
        return decoded_length(counts, rates, sample_rate)
    lists = rows[PIECES.name].combine_chunks()
    pieces = lists.flatten()
    silences, counts, rates = (
        pieces.field(name).to_numpy().astype(np.int64) for name in ("silence_samples", "num_samples", "sample_rate")
    )
    each = decoded_length(silences, rates, sample_rate) + decoded_length(counts, rates, sample_rate)
    ends = np.r_[0, np.cumsum(each)][np.r_[0, np.cumsum(lists.value_lengths().to_numpy())]]
    return np.diff(ends)


def open_manifest(uri: str) -> Manifest:
    """Open a manifest, once per process while it is the same one: its index is read for every shard."""
    try:
        mark = open_store(uri).read(SUCCESS)
    except FileNotFoundError:
        mark = b""
    return _opened(uri, mark)


@functools.lru_cache(maxsize=4)
def _opened(uri: str, mark: bytes) -> Manifest:
    return Manifest(uri)


_of_thread = threading.local()


def _decoder(sample_rate: int, limits: DecodeLimits, roots: tuple[str, ...]) -> Decoder:
    """Give this thread's decoder: threads that decode side by side would else wait for one decode child."""
    wanted = sample_rate, limits, roots
    if getattr(_of_thread, "wanted", None) != wanted:
        _of_thread.wanted, _of_thread.decoder = wanted, Decoder(sample_rate=sample_rate, limits=limits, roots=roots)
    decoder: Decoder = _of_thread.decoder
    return decoder


@dataclass(frozen=True, kw_only=True)
class ShardLoader:
    """Decodes the utterances of a shard; the decode child lives as long as the process.

    Attributes:
        manifest: URI of the manifest.
        sample_rate: Rate of the waveforms given, Hz.
        limits: What a recording may cost.
        max_row_seconds: Longer utterances are not decoded here: they come with their source, for the encoder to
            stream.
    """

    manifest: str
    sample_rate: int
    limits: DecodeLimits
    max_row_seconds: float

    def __call__(self, unit: str) -> list[Utterance]:
        """Decode a shard; an utterance that cannot be used comes without samples, with its problem."""
        faults.point("load", unit)
        return self._decoded(unit, None)

    def some(self, unit: str, wanted: frozenset[str]) -> list[Utterance]:
        """Decode the utterances of a shard that have these ids."""
        return self._decoded(unit, wanted)

    def _decoded(self, unit: str, wanted: frozenset[str] | None) -> list[Utterance]:
        manifest = open_manifest(self.manifest)
        decoder = _decoder(self.sample_rate, self.limits, tuple(manifest.roots))
        rows = manifest.rows(unit).to_pylist()
        return [self._decode(decoder, row) for row in rows if wanted is None or row["utterance_id"] in wanted]

    def _decode(self, decoder: Decoder, row: dict[str, Any]) -> Utterance:
        identity = {"utterance_id": row["utterance_id"], "uri": row["uri"]}
        place = {name: row[name] for name in (*PLACE, PIECES.name) if name in row}
        seconds = row["num_samples"] / row["sample_rate"]
        if self.max_row_seconds < seconds <= self.limits.max_seconds:
            return Utterance(**identity, samples=None, seconds=seconds, source=place)
        passed_over = PassedOver()
        try:
            samples = decode_place(decoder, place, passed_over)
        except AudioDecodeError as error:
            return Utterance(**identity, samples=None, seconds=0.0, problem=(error.reason, error.detail))
        seconds = len(samples) / self.sample_rate
        return Utterance(**identity, samples=samples, seconds=seconds, passed_over=passed_over.to_json())

    def stream(self, source: Mapping[str, Any], passed_over: PassedOver) -> Iterator[np.ndarray]:
        """Decode what an utterance's ``source`` tells, in stretches; see ``stream_place``."""
        decoder = _decoder(self.sample_rate, self.limits, tuple(open_manifest(self.manifest).roots))
        return stream_place(decoder, source, passed_over)
