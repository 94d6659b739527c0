"""A features file as it grows: one row group in memory, or several on the local disk where a shard is large.

Memory: ``SPILL_BYTES`` of features and as much again while they are written, however long a recording is. The bytes
follow from the rows alone.
"""

import mmap
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.store.dataset import Json, canonical, parquet_bytes

SPILL_BYTES = 128 << 20
"""Features of 7 minutes at L = 5, D = 768: most shards stay in memory."""


class FeatureFile:
    """Takes rows in any order, gives the bytes of a Parquet file."""

    def __init__(self, columns: pa.Schema, lineage: Mapping[str, Json], *, spill_bytes: int = SPILL_BYTES) -> None:
        """Begin without rows.

        Args:
            columns: As ``schema.features`` gives them.
            lineage: Goes into the footer.
            spill_bytes: Features held before they are written to disk.
        """
        self._columns = columns
        self._lineage = lineage
        self._spill_bytes = spill_bytes
        self._layers = [name for name in columns.names if name.startswith("layer_")]
        self._held: list[tuple[int, dict[str, Any]]] = []
        self._held_bytes = 0
        self._file: Any = None
        self._writer: pq.ParquetWriter | None = None
        self._written: list[list[int]] = []

    def add(self, place: int, rows: Sequence[dict[str, Any]]) -> None:
        """Take rows of the utterance at a place of the shard."""
        self._held += [(place, row) for row in rows]
        self._held_bytes += sum(len(row[name]) for row in rows for name in self._layers)
        if self._held_bytes >= self._spill_bytes:
            self._spill()

    def finish(self, rejected: Collection[int]) -> tuple[memoryview, int]:
        """Give the file without the rows of rejected utterances.

        Args:
            rejected: Places of utterances that turned out to have no features.

        Returns:
            The bytes, and the frames in them.
        """
        if self._writer is None:
            self._held.sort(key=lambda held: (held[0], held[1]["first_frame"]))
            table = self._table([row for place, row in self._held if place not in rejected])
            # Float16 noise does not compress; zstd costs time for 3 % of the bytes.
            return parquet_bytes(table, self._lineage, compression="none"), _frames(table)
        self._spill()
        self._writer.close()
        if any(place in rejected for group in self._written for place in group):
            self._rewrite(rejected)
        return self._mapped()

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in self._columns}
        return pa.table(columns).cast(self._columns)

    def _spill(self) -> None:
        if self._writer is None:
            self._open()
        assert self._writer is not None
        if self._held:
            self._writer.write_table(self._table([row for _, row in self._held]))
            self._written.append([place for place, _ in self._held])
        self._held, self._held_bytes = [], 0

    def _open(self) -> None:
        # Without a name, so that the kernel frees it even after SIGKILL.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the mapping of it
        footer = schema.with_lineage(self._columns, canonical(self._lineage))
        self._writer = pq.ParquetWriter(self._file, footer, compression="none", write_page_checksum=True)

    def _rewrite(self, rejected: Collection[int]) -> None:
        """Copy the file without the rows of utterances whose last windows failed."""
        source, groups = self._file, self._written
        source.seek(0)
        parquet = pq.ParquetFile(source)
        self._open()
        assert self._writer is not None
        for number, places in enumerate(groups):
            kept = pa.array([place not in rejected for place in places], pa.bool_())
            self._writer.write_table(parquet.read_row_group(number).filter(kept))
        self._writer.close()
        source.close()

    def _mapped(self) -> tuple[memoryview, int]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        frames = _frames(pq.ParquetFile(self._file).read(["num_frames"]))
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)), frames


def _frames(table: pa.Table) -> int:
    return sum(table["num_frames"].to_pylist())
