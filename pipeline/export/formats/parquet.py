"""Parquet for ``datasets`` and everything else that reads tables: a row a document.

    document_id  string
    input_ids    list<uint16> or list<int32>
    loss_mask    list<bool>, where there is one: false where no loss is to be taken
    utterances   list<struct>: the columns of ``META``, a struct for each stretch of an utterance in the document

Row groups hold about 64 MB, so that a reader that streams holds one at a time.
"""

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.export.formats.arrays import META, Bytes, Documents, Spelling
from pipeline.export.formats.files import described, first_of
from pipeline.store.dataset import canonical

EXTENSION = ".parquet"
ROW_GROUP_BYTES = 64_000_000
UTTERANCE = [field for field in META if field.name not in ("document", "document_id")]


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse nothing: the format holds any ids."""


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out."""
    fields = [
        pa.field("document_id", pa.string()),
        pa.field("input_ids", pa.list_(pa.from_numpy_dtype(spelling.vocabulary.dtype))),
        pa.field("utterances", pa.list_(pa.struct(UTTERANCE))),
    ]
    if documents.loss_mask is not None:
        fields.insert(2, pa.field("loss_mask", pa.list_(pa.bool_())))
    layout = schema.with_lineage(pa.schema(fields), canonical(described(spelling)))
    names, sink = first_of(documents, "document_id"), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, layout, compression="zstd", write_page_checksum=True) as writer:
        for first, last in row_groups(documents):
            writer.write_table(_rows(documents, names, layout, first, last), row_group_size=last - first)
    return {EXTENSION: memoryview(sink.getvalue())}


def row_groups(documents: Documents) -> list[tuple[int, int]]:
    """Cut a shard into ranges of documents of about ``ROW_GROUP_BYTES`` as Arrow holds them."""
    an_id = documents.ids.dtype.itemsize + (documents.loss_mask is not None)
    a_row = documents.meta.nbytes / max(1, documents.meta.num_rows)
    groups = ((documents.starts * an_id + documents.first_rows[:-1] * a_row) // ROW_GROUP_BYTES).astype(np.int64)
    bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1)).tolist() if len(groups) else [0]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _rows(documents: Documents, names: pa.Array, layout: pa.Schema, first: int, last: int) -> pa.Table:
    begin, end = int(documents.starts[first]), int(documents.ends[last - 1])
    offsets = pa.array(np.append(documents.starts[first:last], end) - begin, pa.int32())
    first_row, last_row = int(documents.first_rows[first]), int(documents.first_rows[last])
    meta = documents.meta.slice(first_row, last_row - first_row)
    stretches = pa.StructArray.from_arrays(
        [meta[field.name].combine_chunks() for field in UTTERANCE], fields=list(UTTERANCE)
    )
    columns = {
        "document_id": names.slice(first, last - first),
        "input_ids": pa.ListArray.from_arrays(offsets, pa.array(documents.ids[begin:end])),
        "utterances": pa.ListArray.from_arrays(
            pa.array(documents.first_rows[first : last + 1] - first_row, pa.int32()), stretches
        ),
    }
    if documents.loss_mask is not None:
        columns["loss_mask"] = pa.ListArray.from_arrays(offsets, pa.array(documents.loss_mask[begin:end]))
    return pa.Table.from_arrays([columns[field.name].cast(field.type) for field in layout], schema=layout)


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the ids of each document; a row group is in memory at a time."""
    with pq.ParquetFile(os.path.join(folder, f"{name}{EXTENSION}"), memory_map=True) as file:
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, columns=["input_ids"])["input_ids"].chunks:
                ids, offsets = chunk.values.to_numpy(), chunk.offsets.to_pylist()
                for start, end in zip(offsets[:-1], offsets[1:], strict=True):
                    yield ids[start:end]
