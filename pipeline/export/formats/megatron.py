"""Megatron's indexed dataset: ``.bin`` and ``.idx``, and beside them ``.meta.parquet`` and ``.mask.bin``.

    .bin           ids, uint16 or int32, little-endian, nothing else
    .idx           "MMIDIDX" 00 00 | version 1, uint64 | 8 for uint16, 4 for int32, uint8
                   | S sequences, uint64 | D + 1 document bounds, uint64
                   | length of each sequence in ids, int32 (S,) | its first byte in .bin, int64 (S,)
                   | the sequence that each document begins with, and S, int64 (D + 1,)
    .meta.parquet  rows of ``META``: where each stretch of a document comes from, with durations
    .mask.bin      uint8, 1 where a loss is taken; Megatron does not look for it

A document is one sequence.

Source: NVIDIA/Megatron-LM: megatron/core/datasets/indexed_dataset.py (megatron-core 0.16.1).
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.formats.arrays import Bytes, Documents, Spelling
from pipeline.export.formats.files import described, mapped, raw
from pipeline.store.dataset import parquet_bytes

EXTENSION = ".bin"
MAGIC = b"MMIDIDX\x00\x00"
HEADER = np.dtype(
    [("magic", "S9"), ("version", "<u8"), ("code", "u1"), ("num_sequences", "<u8"), ("num_bounds", "<u8")]
)
CODES: dict[int, np.dtype[Any]] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse nothing: the format holds any ids."""


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out.

    Raises:
        SettingsError: A document passes 2^31 - 1 ids, which the index cannot say.
    """
    files: dict[str, Bytes] = {
        EXTENSION: raw(documents.ids),
        ".idx": index(documents),
        ".meta.parquet": parquet_bytes(documents.meta, described(spelling)),
    }
    if documents.loss_mask is not None:
        files[".mask.bin"] = raw(documents.loss_mask)
    return files


def index(documents: Documents) -> bytes:
    """Give the content of ``.idx``.

    Raises:
        SettingsError: A document passes 2^31 - 1 ids.
    """
    lengths = documents.ends - documents.starts
    if lengths.max(initial=0) > np.iinfo(np.int32).max:
        raise SettingsError(f"a document of {lengths.max():,} ids passes Megatron's int32; set a maximum length")
    itemsize = documents.ids.dtype.itemsize
    code = next(code for code, dtype in CODES.items() if dtype.itemsize == itemsize)
    header = np.array([(MAGIC, 1, code, len(documents), len(documents) + 1)], dtype=HEADER)
    numbers = np.arange(len(documents) + 1, dtype="<i8")
    pointers = documents.starts.astype("<i8") * itemsize
    return b"".join([header.tobytes(), lengths.astype("<i4").tobytes(), pointers.tobytes(), numbers.tobytes()])


class IndexedIds:
    """Random access to the documents of a shard, by memory maps of both files.

    Args:
        folder: A local folder.
        name: Name of the shard without its ending.

    Raises:
        CorruptDatasetError: The files are not such an index and its ids.
    """

    def __init__(self, folder: str, name: str) -> None:
        path = os.path.join(folder, f"{name}.idx")
        content = mapped(path, np.dtype(np.uint8))
        header = content[: HEADER.itemsize].view(HEADER) if len(content) >= HEADER.itemsize else None
        # numpy takes the zero bytes at the end of a string off.
        if header is None or bytes(content[:9]) != MAGIC or header["version"][0] != 1 or header["code"][0] not in CODES:
            raise CorruptDatasetError(f"{path} is no index of version 1 of uint16 or int32 ids; restore or export it")
        num_sequences, num_bounds = int(header["num_sequences"][0]), int(header["num_bounds"][0])
        if len(content) != HEADER.itemsize + 12 * num_sequences + 8 * num_bounds:
            raise CorruptDatasetError(f"{path} has {len(content):,} bytes, which its header contradicts; restore it")
        lengths, pointers, bounds = np.split(
            content[HEADER.itemsize :], np.cumsum([4 * num_sequences, 8 * num_sequences])
        )
        self._lengths, self._pointers, self._bounds = lengths.view("<i4"), pointers.view("<i8"), bounds.view("<i8")
        self._ids = mapped(os.path.join(folder, f"{name}{EXTENSION}"), CODES[int(header["code"][0])])
        last = int(self._pointers[-1]) + int(self._lengths[-1]) * self._ids.dtype.itemsize if num_sequences else 0
        if last != self._ids.nbytes:
            raise CorruptDatasetError(f"{path} needs {last:,} bytes of ids, {name}{EXTENSION} has {self._ids.nbytes:,}")

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, document: int) -> np.ndarray:
        """Give the ids of a document, a view of the memory map: uint16 or int32 (I,).

        Raises:
            IndexError: There is no such document.
        """
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        first, last = int(self._bounds[document]), int(self._bounds[document + 1])
        begin = int(self._pointers[first]) // self._ids.dtype.itemsize if last > first else 0
        return self._ids[begin : begin + int(self._lengths[first:last].sum())]


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the ids of each document, views of a memory map.

    Raises:
        CorruptDatasetError: The files are not such an index and its ids.
    """
    documents = IndexedIds(folder, name)
    return (documents[number] for number in range(len(documents)))
