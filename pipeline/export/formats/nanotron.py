"""Tokenized files of datatrove and nanotron: ``.ds``, ``.ds.index``, ``.ds.metadata``, and ``.ds.loss``.

    .ds           ids, uint16 or uint32, little-endian, nothing else
    .ds.index     where each document ends, in ids, uint64 (N,)
    .ds.metadata  tokenizer|bytes of an id, number of ids, and that number for people; three lines
    .ds.loss      a byte an id, 1 where a loss is taken

nanotron opens the tokenizer that the metadata name with ``AutoTokenizer``, from its working folder: ``TOKENIZER`` is
the tokenizer folder of an export.

Source: huggingface/datatrove: src/datatrove/pipeline/tokens/tokenizer.py, class TokenizedFile, and
src/datatrove/utils/dataset.py (0.10.1); huggingface/nanotron: src/nanotron/config/config.py, NanosetDatasetsArgs.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError
from pipeline.export.formats.arrays import Bytes, Documents, Spelling
from pipeline.export.formats.files import mapped, raw, split

EXTENSION = ".ds"
TOKENIZER = "tokenizer"
DTYPES: dict[str, np.dtype[Any]] = {"2": np.dtype("<u2"), "4": np.dtype("<i4")}


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse nothing: the format holds any ids."""


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out."""
    num_ids = len(documents.ids)
    metadata = f"{TOKENIZER}|{documents.ids.dtype.itemsize}\n{num_ids}\n{for_people(num_ids)}"
    files: dict[str, Bytes] = {
        EXTENSION: raw(documents.ids),
        ".ds.index": documents.ends.astype("<u8").tobytes(),
        ".ds.metadata": metadata.encode(),
    }
    if documents.loss_mask is not None:
        files[".ds.loss"] = raw(documents.loss_mask)
    return files


def for_people(count: int) -> str:
    """Write a number of tokens with three digits and a metric prefix, as ``12.3 MT``."""
    if count == 0:
        return "0.00 T"
    exponent = math.floor(math.log10(count))
    # What rounds to one digit more before the point is written so: 999,999 is 1.00 M.
    rounded = round(count / 10 ** (exponent // 3 * 3), 2 - exponent % 3)
    exponent += rounded >= 10 ** (exponent % 3 + 1)
    return f"{count / 10 ** (exponent // 3 * 3):.{2 - exponent % 3}f} {' kMGTPE'[exponent // 3].strip()}T"


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the ids of each document, views of a memory map; those of 4 bytes as int32.

    Raises:
        CorruptDatasetError: The files contradict each other.
    """
    path = os.path.join(folder, f"{name}{EXTENSION}")
    with open(f"{path}.metadata", encoding="utf-8") as metadata:
        size = metadata.readline().strip().rpartition("|")[2]
    if size not in DTYPES:
        raise CorruptDatasetError(f"{path}.metadata does not say that ids have 2 or 4 bytes; restore or export it")
    return split(mapped(path, DTYPES[size]), mapped(f"{path}.index", np.dtype("<u8")), path)
