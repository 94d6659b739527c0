"""From rows of sequences to the documents of one shard, as formats want them.

begin, special tokens of its first row, ids of all its rows in order, end
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import CorruptDatasetError
from pipeline.export.formats.arrays import META, Documents
from pipeline.export.ids.vocabulary import BEGIN, END, Vocabulary


def assemble(rows: pa.Table, document: np.ndarray, vocabulary: Vocabulary) -> Documents:
    """Join rows into documents.

    Args:
        rows: Rows of ``schema.SEQUENCES`` in the order of the shard.
        document: int32 (R,), the document of each row, rising from 0 without gaps.
        vocabulary: Whose ids they are.

    Returns:
        The documents; a loss mask only where some row has one.

    Raises:
        CorruptDatasetError: A row holds another number of ids than it says.
    """
    pieces = _buffers(rows["ids"], vocabulary.dtype)
    lengths = np.fromiter((len(piece) for piece in pieces), np.int64, len(pieces))
    if (lengths != rows["num_ids"].to_numpy()).any():
        raise CorruptDatasetError("a row of sequences holds another number of ids than it says; export anew")
    first = np.flatnonzero(np.r_[True, np.diff(document) != 0])[: len(document)]
    prefixes = rows["prefix"].combine_chunks().take(pa.array(first)).to_pylist()
    opening = [np.array([vocabulary.special(BEGIN), *prefix], vocabulary.dtype) for prefix in prefixes]
    closing = np.array([vocabulary.special(END)], vocabulary.dtype)
    parts: list[np.ndarray] = []
    starts = np.zeros(len(pieces), np.int64)
    ends = np.zeros(len(first), np.int64)
    bounds = np.r_[first, len(pieces)]
    held = 0
    for number, opened in enumerate(opening):
        begun, inside = held, range(bounds[number], bounds[number + 1])
        parts.append(opened)
        held += len(opened)
        for place in inside:
            starts[place] = held - begun
            parts.append(pieces[place])
            held += len(pieces[place])
        parts.append(closing)
        held += 1
        ends[number] = held
    ids = np.concatenate(parts) if parts else np.zeros(0, vocabulary.dtype)
    meta = _meta(rows, document, starts)
    mask = _mask(rows, document, starts, ends)
    return Documents(ids=ids, ends=ends, meta=meta, loss_mask=mask)


def _buffers(column: pa.ChunkedArray, dtype: "np.dtype[np.generic]") -> list[np.ndarray]:
    """Give the cells of a binary column as arrays; a null is an empty one."""
    return [np.frombuffer(cell.as_buffer() or b"", dtype) if cell.is_valid else np.zeros(0, dtype) for cell in column]


def _meta(rows: pa.Table, document: np.ndarray, starts: np.ndarray) -> pa.Table:
    made = {
        "document": pa.array(document.astype(np.int64)),
        "start": pa.array(starts),
        "durations": _lists(rows["durations"]),
    }
    return pa.table({name: made[name] if name in made else rows[name] for name in META.names}).cast(META)


def _lists(column: pa.ChunkedArray) -> pa.Array:
    """Turn cells of int32 bytes into lists, null into null."""
    kind = META.field("durations").type
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    cells = _buffers(column, np.dtype("<i4"))
    ends = np.cumsum([0, *map(len, cells)])
    absent = np.r_[column.combine_chunks().is_null().to_numpy(zero_copy_only=False), False]
    offsets = pa.array(ends, pa.int32(), mask=absent)
    return pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(cells), pa.int32()), type=kind)


def _mask(rows: pa.Table, document: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
    """Give the loss mask of a shard: begin, prefix and end count, as every id of a row without a mask does."""
    column = rows["loss_mask"]
    if column.null_count == len(column):
        return None
    begins = np.r_[0, ends[:-1]][document]
    mask = np.ones(int(ends[-1]), bool)
    for place, cell in enumerate(_buffers(column, np.dtype(np.uint8))):
        if len(cell):
            start = int(begins[place] + starts[place])
            mask[start : start + len(cell)] = cell.astype(bool)
    return mask


def gather(tables: Iterable[tuple[pa.Table, np.ndarray]]) -> pa.Table:
    """Join tables whose rows carry their places in the shard.

    Args:
        tables: Rows and their places, int64 (R,), in any order; all places together are 0 to R - 1.

    Returns:
        All rows in the order of their places.
    """
    found = list(tables)
    if not found:
        return schema.SEQUENCES.empty_table()
    whole = pa.concat_tables([table for table, _ in found])
    order = np.argsort(np.concatenate([places for _, places in found]), kind="stable")
    return whole.take(pa.array(order)) if (np.diff(order) != 1).any() else whole


def rows_by_unit(unit: np.ndarray, row: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Say what a shard takes of each unit.

    Args:
        unit: int32 (R,), unit of each row of the shard, in the shard's order.
        row: int32 (R,), its place in the unit.

    Yields:
        A unit, the rows taken of it, and their places in the shard.
    """
    order = np.argsort(unit, kind="stable")
    units, starts = np.unique(unit[order], return_index=True)
    for number, places in zip(units.tolist(), np.split(order, starts[1:]), strict=True):
        yield number, row[places], places
