"""WebDataset: one tar a shard, and in it for each document ``KEY.npy``, ``KEY.json``, and ``KEY.mask.npy``.

    KEY.npy       the ids as ``numpy.save`` writes them: uint16 or int32 (I,), no pickle
    KEY.mask.npy  bool (I,), where there is a loss mask
    KEY.json      {"document_id": ..., "num_ids": ..., "utterances": [{column of META: value}]}

A key is the number of the document in the shard, eight digits: what follows its first dot is the ending.
Headers are those of POSIX ustar; owner, group and time are zero.

Source: webdataset/webdataset: src/webdataset/tariterators.py, base_plus_ext and group_by_keys (1.0.2); POSIX.1-2017,
pax, "ustar Interchange Format"; NEP 1 (numpy's NPY format, version 1.0).
"""

import io
import os
import tarfile
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from pipeline.errors import SettingsError
from pipeline.export.formats.arrays import META, Bytes, Documents, Spelling
from pipeline.export.formats.files import first_of, json_cells, raw
from pipeline.export.formats.units import spelled

EXTENSION = ".tar"
KEY_DIGITS = 8
BLOCK, RECORD = 512, 10_240
NPY_HEADER = 128
"""Bytes before the numbers of an array of one axis: 10, and a text that is filled up to a multiple of 64."""
COLUMNS = [name for name in META.names if name not in ("document", "document_id", "durations")]


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse nothing: the format holds any ids."""


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out.

    Raises:
        SettingsError: There are more documents than keys.
    """
    if len(documents) > 10**KEY_DIGITS:
        raise SettingsError(
            f"a tar holds at most {10**KEY_DIGITS:,} documents, got {len(documents):,}; use more shards"
        )
    texts, lengths = json_texts(documents), documents.ends - documents.starts
    arrays = {".npy": documents.ids}
    if documents.loss_mask is not None:
        arrays[".mask.npy"] = documents.loss_mask
    sizes = [NPY_HEADER + lengths * array.dtype.itemsize for array in arrays.values()]
    sizes.append(np.fromiter(map(len, texts), np.int64, len(texts)))
    members = np.stack(sizes, axis=1)
    # A member is a header and whole blocks of content; a tar ends with two empty blocks, and is whole records.
    ends = np.cumsum(1 - -members.reshape(-1) // BLOCK)
    total = (int(ends[-1]) if len(ends) else 0) + 2
    blocks = np.zeros((total + -total % (RECORD // BLOCK), BLOCK), dtype=np.uint8)
    starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
    blocks[starts] = tar_headers([*arrays, ".json"], members).reshape(-1, BLOCK)
    tar = raw(blocks.reshape(-1))
    places = ((starts + 1) * BLOCK).reshape(members.shape).T.tolist()
    bounds = list(zip(documents.starts.tolist(), documents.ends.tolist(), strict=True))
    for array, column in zip(arrays.values(), places[:-1], strict=True):
        _place_arrays(tar, array, bounds, column)
    for place, text in zip(places[-1], texts, strict=True):
        tar[place : place + len(text)] = text
    return {EXTENSION: tar}


def _place_arrays(tar: memoryview, array: np.ndarray, bounds: list[tuple[int, int]], places: list[int]) -> None:
    content, itemsize, descr = raw(array), array.dtype.itemsize, array.dtype.str
    for place, (start, end) in zip(places, bounds, strict=True):
        header = npy_header(descr, end - start)
        tar[place : place + NPY_HEADER] = header
        begin = place + NPY_HEADER
        tar[begin : begin + (end - start) * itemsize] = content[start * itemsize : end * itemsize]


def npy_header(descr: str, length: int) -> bytes:
    """Give what ``numpy.save`` writes before the numbers of an array of one axis; ``descr`` as ``<u2``."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({length},), }}"
    return b"\x93NUMPY\x01\x00" + (NPY_HEADER - 10).to_bytes(2, "little") + text.ljust(NPY_HEADER - 11).encode() + b"\n"


def tar_headers(endings: list[str], sizes: np.ndarray) -> np.ndarray:
    """Make the headers of regular files.

    Args:
        endings: Endings of the members of a document.
        sizes: int64 (N, members), their bytes.

    Returns:
        uint8 (N, members, 512).
    """
    template = np.zeros(BLOCK, dtype=np.uint8)
    # Mode, owner, group, size, time, checksum (spaces while it is counted), regular file, magic and version.
    fields = {
        100: b"0000644",
        108: b"0000000",
        116: b"0000000",
        136: b"00000000000",
        148: b" " * 8,
        156: b"0",
        257: b"ustar",
        263: b"00",
    }
    for place, field in fields.items():
        template[place : place + len(field)] = np.frombuffer(field, dtype=np.uint8)
    headers = np.tile(template, (*sizes.shape, 1))
    headers[:, :, :KEY_DIGITS] = _digits(np.arange(len(sizes)), KEY_DIGITS, 10)[:, None]
    for member, ending in enumerate(endings):
        headers[:, member, KEY_DIGITS : KEY_DIGITS + len(ending)] = np.frombuffer(ending.encode(), dtype=np.uint8)
    headers[:, :, 124:135] = _digits(sizes, 11, 8)
    headers[:, :, 148:154] = _digits(headers.sum(axis=2, dtype=np.int64), 6, 8)
    headers[:, :, 154] = 0
    return headers


def _digits(numbers: np.ndarray, width: int, base: int) -> np.ndarray:
    places = base ** np.arange(width - 1, -1, -1)
    return (numbers[..., None] // places % base + ord("0")).astype(np.uint8)


def json_texts(documents: Documents) -> list[bytes]:
    """Give ``KEY.json`` of each document, ASCII."""
    cells = [json_cells(documents.meta[name].to_pylist()) for name in COLUMNS]
    form = "{" + ", ".join(f'"{name}": %s' for name in [*COLUMNS, "durations"]) + "}"
    rows = [form % row for row in zip(*cells, _durations(documents), strict=True)]
    names = json_cells(first_of(documents, "document_id").to_pylist())
    lengths, places = (documents.ends - documents.starts).tolist(), documents.first_rows.tolist()
    return [
        f'{{"document_id": {name}, "num_ids": {length}, "utterances": [{", ".join(rows[first:last])}]}}'.encode()
        for name, length, first, last in zip(names, lengths, places[:-1], places[1:], strict=True)
    ]


def _durations(documents: Documents) -> list[str]:
    column = documents.meta["durations"]
    if column.null_count == len(column):
        return ["null"] * len(column)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())
    texts = spelled(pc.list_flatten(column).to_numpy(), ends, "%d", ", ")
    given = column.is_valid().to_pylist()
    return [f"[{text.decode()}]" if valid else "null" for text, valid in zip(texts, given, strict=True)]


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the ids of each document."""
    with tarfile.open(os.path.join(folder, f"{name}{EXTENSION}"), "r|") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name[KEY_DIGITS:] == ".npy" else None
            if content is not None:
                yield np.load(io.BytesIO(content.read()), allow_pickle=False)
            # The members of a stream are kept otherwise, all of them.
            tar.members = []  # type: ignore[attr-defined]
