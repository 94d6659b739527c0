"""Arrays of dolma and OLMo: ``.npy``, which is ids without a header, ``.csv.gz`` of spans, and ``.mask.bin``.

    .npy       ids, uint16 or uint32, little-endian, nothing else
    .csv.gz    a line a document: start, end (in ids), id, src (the uri of its first utterance), loc (its number here)
    .mask.bin  a byte an id, 1 where a loss is taken: the ``label_mask_paths`` of OLMo-core; not named ``.npy``, so
               that a pattern for ids does not find it

OLMo-core guesses documents from end tokens where it is told one; ``use_array_if_local=False`` makes it read the spans.

Source: allenai/dolma: python/dolma/tokenizer/memmap_writer.py and data_types.py, class MemmapMetadata;
allenai/OLMo-core: src/olmo_core/data/utils.py, iter_document_indices (3.0.0).
"""

import csv
import gzip
import io
import os
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.formats.arrays import Bytes, Documents, Spelling
from pipeline.export.formats.files import first_of, mapped, raw, split

EXTENSION = ".npy"


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse nothing: the format holds any ids."""


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out.

    Raises:
        SettingsError: A document's id or uri has a line break: OLMo-core reads the spans line by line.
    """
    files: dict[str, Bytes] = {EXTENSION: raw(documents.ids), ".csv.gz": spans(documents)}
    if documents.loss_mask is not None:
        files[".mask.bin"] = raw(documents.loss_mask)
    return files


def spans(documents: Documents) -> bytes:
    """Give the content of ``.csv.gz``.

    Raises:
        SettingsError: A document's id or uri has a line break.
    """
    names = {}
    for column in ("document_id", "uri"):
        cells = first_of(documents, column)
        broken = pc.filter(cells, pc.match_substring_regex(cells, r"[\r\n]"))
        if len(broken):
            raise SettingsError(
                f"the format olmo lists documents line by line, but the {column} {broken[0].as_py()!r} has a line "
                "break; rename it in the manifest, or export another format"
            )
        names[column] = cells.to_pylist()
    text = io.StringIO(newline="")
    starts, ends = documents.starts.tolist(), documents.ends.tolist()
    csv.writer(text).writerows(zip(starts, ends, names["document_id"], names["uri"], range(len(ends)), strict=True))
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the ids of each document, views of a memory map; those of 4 bytes as int32.

    Raises:
        CorruptDatasetError: The spans do not cover the ids.
    """
    path = os.path.join(folder, f"{name}{EXTENSION}")
    with gzip.open(os.path.join(folder, f"{name}.csv.gz"), "rt", encoding="utf-8", newline="") as text:
        ends = np.array([int(row[1]) for row in csv.reader(text)], dtype=np.int64)
    # The file does not say how wide an id is: its size and the last span do.
    num_ids, size = int(ends[-1]) if len(ends) else 0, os.path.getsize(path)
    if size not in (2 * num_ids, 4 * num_ids):
        raise CorruptDatasetError(f"{path} has {size:,} bytes, its spans end at id {num_ids:,}; restore or export it")
    return split(mapped(path, np.dtype("<i4" if num_ids and size == 4 * num_ids else "<u2")), ends, path)
