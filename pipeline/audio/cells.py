"""Reads recordings out of the cells of a Parquet table, one after the other.

A table is either that of Hugging Face ``datasets`` (column of struct<bytes, path>) or has the bytes as a plain binary
column. Only that column's pages are read, in order, from the beginning of the row group: Parquet cannot be entered
in the middle of one. So rows in order cost one pass over a row group, and a row before the last one a new pass.
Memory: a page and 16 recordings.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.doubts import Doubts
from pipeline.audio.places import Place
from pipeline.audio.remote import open_ranged
from pipeline.errors import AudioDecodeError
from pipeline.schema import Reason

_ROWS = 16
_BUFFER_BYTES = 1 << 20


def audio_leaf(schema: pa.Schema, column: str) -> str | None:
    """Name the Parquet column that holds the bytes of a column of audio.

    Returns:
        ``audio.bytes`` for a struct with bytes, ``audio`` for a binary column, None for anything else.
    """
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{column}.bytes" if _is_binary(kind.field("bytes").type) else None
    return column if _is_binary(kind) else None


def open_table(uri: str) -> pq.ParquetFile:
    """Open a Parquet file so that its columns are read page by page and not as a whole.

    Args:
        uri: A local path or S3 URI.
    """
    return pq.ParquetFile(open_ranged(uri, _BUFFER_BYTES), buffer_size=_BUFFER_BYTES, pre_buffer=False)


def cells(table: pq.ParquetFile, leaf: str, row_group: int) -> Iterator[Any]:
    """Give the bytes of a row group's recordings in order, as Arrow scalars; null cells are None."""
    for batch in table.iter_batches(batch_size=_ROWS, row_groups=[row_group], columns=[leaf], use_threads=False):
        column = batch.column(0)
        if pa.types.is_struct(column.type):
            column = column.flatten()[0]
        for scalar in column:
            yield scalar.as_buffer()


class CellReader:
    """Reads cells of one Parquet file; keeps its place for the next row.

    Args:
        uri: A real local path or S3 URI.
        doubts: Judges reads that fail.

    Raises:
        AudioDecodeError: The file is missing or is no Parquet.
        StorageError: The store failed.
    """

    def __init__(self, uri: str, doubts: Doubts) -> None:
        self.uri = uri
        self._doubts = doubts
        self._place: tuple[str, int] | None = None
        self._next_row = 0
        self._rows: Iterator[Any] = iter(())
        self._last: Any = None
        self._table = doubts.read(uri, uri, lambda: open_table(uri))

    def read(self, part: Place) -> memoryview:
        """Read the bytes of one recording.

        Raises:
            AudioDecodeError: The cell is null or absent, or the file is damaged.
            StorageError: The store failed.
        """
        row, row_group = part.row, part.row_group
        if row is None or row_group is None or not 0 <= row_group < self._table.num_row_groups:
            raise AudioDecodeError(Reason.BAD_ROW, f"{self.uri} has no {part}")
        self._doubts.read(self.uri, f"{self.uri}: {part}", lambda: self._reach(part.member, row_group, row))
        if self._last is None:
            raise AudioDecodeError(Reason.EMPTY, f"{self.uri}: {part} holds no bytes")
        return memoryview(self._last)

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def _reach(self, column: str, row_group: int, row: int) -> None:
        """Go to a row; where that fails, the next one begins anew."""
        try:
            self._seek(column, row_group, row)
        except BaseException:
            self._place = None
            raise

    def _seek(self, column: str, row_group: int, row: int) -> None:
        if self._place != (column, row_group) or row < self._next_row - 1:
            schema = self._table.schema_arrow
            leaf = audio_leaf(schema, column) if column in schema.names else None
            if leaf is None:
                raise AudioDecodeError(Reason.BAD_ROW, f"{self.uri} has no column {column} of audio bytes")
            self._rows, self._place = cells(self._table, leaf, row_group), (column, row_group)
            self._next_row = 0
        while self._next_row <= row:
            try:
                self._last = next(self._rows)
            except StopIteration:
                raise AudioDecodeError(Reason.BAD_ROW, f"{self.uri} ends before row {row}") from None
            self._next_row += 1


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
