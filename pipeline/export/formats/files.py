"""What several formats need: raw bytes, memory maps, a document's name, JSON cells, and the header of a file.

Shapes: N documents, I ids.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import CorruptDatasetError
from pipeline.export.formats.arrays import Documents, Spelling


def raw(array: np.ndarray) -> memoryview:
    """Give the bytes of an array of one axis; nothing is copied where it lies in one piece."""
    return np.ascontiguousarray(array).view(np.uint8).data


def mapped(path: str, dtype: np.dtype[Any]) -> np.ndarray:
    """Map a file of numbers into memory, to be read only.

    Args:
        path: A local file, which may be empty.
        dtype: What it holds.

    Returns:
        All of it, one axis.

    Raises:
        CorruptDatasetError: Its size is no multiple of the numbers' size.
    """
    size = os.path.getsize(path)
    if size % dtype.itemsize:
        raise CorruptDatasetError(f"{path} has {size:,} bytes, no multiple of {dtype.itemsize}; restore or export it")
    return np.memmap(path, dtype=dtype, mode="r") if size else np.zeros(0, dtype)


def split(ids: np.ndarray, ends: np.ndarray, source: str) -> Iterator[np.ndarray]:
    """Give each document's ids, views of (I,), for ends (N,).

    Raises:
        CorruptDatasetError: The ends do not rise, or not up to the number of ids.
    """
    last = int(ends[-1]) if len(ends) else 0
    if last != len(ids) or (np.diff(ends.astype(np.int64), prepend=0) < 0).any():
        raise CorruptDatasetError(f"the documents of {source} do not cover its {len(ids):,} ids; restore or export it")
    start = 0
    for end in ends.tolist():
        yield ids[start:end]
        start = end


def first_of(documents: Documents, column: str) -> pa.Array:
    """Give a column of ``META`` at the first stretch of each document: (N,), null where a document has none."""
    rows = documents.first_rows
    nothing = rows[1:] == rows[:-1]
    if nothing.all():
        return pa.nulls(len(nothing), documents.meta.schema.field(column).type)
    return documents.meta[column].combine_chunks().take(pa.array(rows[:-1], mask=nothing))


def json_cells(values: Sequence[object]) -> list[str]:
    """Spell strings, numbers and None as JSON, each by itself.

    Raises:
        ValueError: A number is not finite.
    """
    # Strings take 170 ns a cell so and numbers 70, by a call for each cell 280 and 1,130. JSON escapes line breaks.
    return json.dumps(values, separators=("\n", ":"), allow_nan=False)[1:-1].split("\n") if values else []


def described(spelling: Spelling) -> dict[str, Any]:
    """Say in JSON what the ids of a file stand for, and where they come from."""
    return {
        "vocabulary": spelling.vocabulary.to_json(),
        "pattern": spelling.pattern.to_json(),
        "frame_rate": spelling.frame_rate,
        "lineage": dict(spelling.lineage),
    }
