"""The layout of an export: read from what its rows say, kept beside them, read again by the workers.

``_layout/HASH/train-00000.parquet`` in a sequences dataset names a shard's rows in order; where their rows lie
all over the units, ``_layout/HASH/group-00000.parquet`` also names, for units scattered together, where each row goes.
Cost: the driver reads seven small columns of every unit, 32 files at a time.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorruptDatasetError
from pipeline.export.ids.vocabulary import FRAMING
from pipeline.export.shards.planning import Rows, ShardRows, ShardSettings, plan_shards
from pipeline.store.dataset import Dataset, canonical, sha256

FOLDER = "_layout"
READERS = 32
COLUMNS = ("document", "num_ids", "valid", "offset_seconds", "prefix", "seconds", "num_frames")
GROUP_BYTES = 256 << 20
"""Bytes of units that are scattered together: so many are in a worker's memory."""

SPREAD = 4
"""Reads of a unit, on average, from which on rows are scattered first: documents may lie all over the corpus, as those
of speakers. Documents that follow each other give little more than 1."""

SHARD = pa.schema([("unit", pa.int32()), ("row", pa.int32()), ("document", pa.int32())])
GROUP = pa.schema([("unit", pa.int32()), ("row", pa.int32()), ("shard", pa.int32()), ("place", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What the driver says of a shard.

    Attributes:
        name: As ``train-00000``.
        num_documents: Its documents.
        num_ids: Its ids.
        num_frames: Frames that they stand for.
        seconds: Seconds of audio.
    """

    name: str
    num_documents: int
    num_ids: int
    num_frames: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which rows make which shard.

    Attributes:
        sha256: Hash of the sequences and of the settings that the layout depends on.
        shards: All shards, in order.
        groups: Units that are scattered together, by group; empty where shards read the units of their rows.
    """

    sha256: str
    shards: tuple[ShardFacts, ...]
    groups: tuple[tuple[int, ...], ...]


def read_rows(sequences: Dataset) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Read what planning needs of every row of a finished sequences dataset.

    Returns:
        The rows, and of each its seconds, float64 (R,), and its frames, int64 (R,).
    """
    tables = read_columns(sequences, COLUMNS)
    counts = [table.num_rows for table in tables]
    whole = pa.concat_tables(tables)
    rows = Rows(
        unit=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        row=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        document=whole["document"].to_numpy(),
        num_ids=whole["num_ids"].to_numpy(),
        framing=FRAMING + np.diff(_offsets(whole["prefix"])).astype(np.int64),
        offset=whole["offset_seconds"].fill_null(0.0).to_numpy(),
        valid=whole["valid"].to_numpy(),
    )
    return rows, whole["seconds"].to_numpy(), whole["num_frames"].to_numpy()


def read_columns(dataset: Dataset, columns: Sequence[str], units: Sequence[str] | None = None) -> list[pa.Table]:
    """Read some columns of units of a finished dataset, default of all, in order.

    Raises:
        CorruptDatasetError: A file is damaged or gone.
    """

    def read(unit: str) -> pa.Table:
        try:
            with dataset.store.open(dataset.data_file(unit)) as file:
                table = pq.read_table(file, columns=list(columns), page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            name = f"{dataset.uri}/{dataset.data_file(unit)}"
            raise CorruptDatasetError(f"{name} cannot be read ({error}); run verify_dataset") from error
        return table.replace_schema_metadata(None)

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, dataset.plan.units if units is None else units))


def _offsets(column: pa.ChunkedArray) -> np.ndarray:
    lengths = pa.compute.list_value_length(column).to_numpy()
    offsets: np.ndarray = np.concatenate([[0], np.cumsum(lengths)])
    return offsets


def lay_out(sequences: Dataset, sequences_sha256: str, settings: ShardSettings) -> Layout:
    """Plan the shards of a finished sequences dataset, and write what workers need of the plan beside it.

    Writing it again writes the same bytes.
    """
    digest = sha256(canonical([sequences_sha256, asdict(settings)]).encode())
    rows, seconds, frames = read_rows(sequences)
    shards = plan_shards(rows, settings)
    for shard in shards:
        table = pa.table([rows.unit[shard.rows], rows.row[shard.rows], shard.document], schema=SHARD)
        _write(sequences, digest, shard.name, table)
    groups: tuple[tuple[int, ...], ...] = ()
    if settings.order == "shuffled" or _spread(rows, shards) > SPREAD:
        groups = _groups([commit.data.bytes for commit in sequences.commits()])
        for number, table in enumerate(_scattered(rows, shards, groups)):
            _write(sequences, digest, group_name(number), table)
    facts = tuple(
        ShardFacts(
            name=shard.name,
            num_documents=shard.num_documents,
            num_ids=shard.num_ids,
            num_frames=int(frames[shard.rows].sum()),
            seconds=float(seconds[shard.rows].sum()),
        )
        for shard in shards
    )
    return Layout(sha256=digest, shards=facts, groups=groups)


def _spread(rows: Rows, shards: Sequence[ShardRows]) -> float:
    """Count how often a unit would be read on average, were each shard to read the units of its rows."""
    reads = sum(len(np.unique(rows.unit[shard.rows])) for shard in shards)
    return reads / max(1, len(np.unique(rows.unit)))


def group_name(number: int) -> str:
    """Name a group of units, as ``group-00042``."""
    return f"group-{number:05d}"


def _groups(num_bytes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Put consecutive units together, up to ``GROUP_BYTES``."""
    groups: list[list[int]] = []
    held = 0
    for unit, size in enumerate(num_bytes):
        if not groups or held + size > GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(unit)
        held += size
    return tuple(map(tuple, groups))


def _scattered(rows: Rows, shards: Sequence[ShardRows], groups: Sequence[Sequence[int]]) -> Iterator[pa.Table]:
    """Say for each group where its rows go, sorted by shard and place."""
    target = np.empty(len(rows), np.int32)
    place = np.empty(len(rows), np.int64)
    for number, shard in enumerate(shards):
        target[shard.rows] = number
        place[shard.rows] = np.arange(len(shard.rows))
    for group in groups:
        begin, end = np.searchsorted(rows.unit, [group[0], group[-1] + 1])
        order = begin + np.lexsort((place[begin:end], target[begin:end]))
        yield pa.table([rows.unit[order], rows.row[order], target[order], place[order]], schema=GROUP)


def _write(sequences: Dataset, digest: str, name: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    sequences.store.write(_name(digest, name), memoryview(sink.getvalue()))


def _name(digest: str, name: str) -> str:
    return f"{FOLDER}/{digest[:16]}/{name}.parquet"


def read_layout(sequences: Dataset, digest: str, name: str) -> pa.Table:
    """Read the layout of a shard or group."""
    with sequences.store.open(_name(digest, name)) as file:
        return pq.read_table(file)
