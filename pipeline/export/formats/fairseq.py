"""Text of units as fairseq reads it: ``.km``, ``.tsv`` and a dictionary, for one layer.

Experimental: the tests imitate its reader.

    .km          a document a line, its units counted from 0, a space between them
    .tsv         an empty line (names are taken as they are), then a line a document: uri, tab, samples at 16 kHz
    dict.km.txt  a unit a line, and the count 1, which nothing reads

``.km`` alone is what unit language models (GSLM) are trained on, through ``fairseq-preprocess``. HuBERT pretraining
reads ``.km`` beside ``.tsv``, line by line, and all of each file, because its reader has no offsets and no channels. So
``.tsv`` is written only where a document is all of a file and no frame is left out (``preparing.py``). Begin and end of
a document are left out: fairseq sets its own.

Source: facebookresearch/fairseq: fairseq/data/audio/hubert_dataset.py, load_audio and load_label;
examples/hubert/simple_kmeans/README.md; examples/textless_nlp/gslm/ulm/README.md; fairseq/data/dictionary.py.
"""

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import SettingsError
from pipeline.export.formats.arrays import Bytes, Documents, Spelling
from pipeline.export.formats.files import first_of
from pipeline.export.formats.units import check_one_layer, layer_units, spelled

EXTENSION = ".km"
SAMPLE_RATE = 16_000


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse what units of one layer cannot express.

    Raises:
        SettingsError: There are several layers, unit BPE or a loss mask.
    """
    check_one_layer("fairseq", spelling, masked=masked)


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out.

    Raises:
        CorruptDatasetError: An id is no unit of the layer.
        SettingsError: A uri has a tab or a line break, which no line can hold.
    """
    found = layer_units(documents, spelling)
    lines = pa.BufferOutputStream()
    for line in spelled(found.units, found.ends, "%d", " "):
        lines.write(line + b"\n")
    beside = {".tsv": audio_list(documents)} if spelling.whole_files else {}
    return {EXTENSION: memoryview(lines.getvalue()), **beside}


def audio_list(documents: Documents) -> bytes:
    """Give the content of ``.tsv``.

    Raises:
        SettingsError: A uri has a tab or a line break.
    """
    uris = first_of(documents, "uri")
    broken = pc.filter(uris, pc.match_substring_regex(uris, r"[\t\r\n]"))
    if len(broken):
        raise SettingsError(
            f"the format fairseq lists recordings line by line, but the uri {broken[0].as_py()!r} has a tab or line "
            "break; rename it in the manifest, or export another format"
        )
    meta = documents.meta
    seconds = np.bincount(meta["document"].to_numpy(), weights=meta["seconds"].to_numpy(), minlength=len(documents))
    samples = np.rint(seconds * SAMPLE_RATE).astype(np.int64).tolist()
    names = pc.coalesce(uris, first_of(documents, "document_id")).fill_null("").to_pylist()
    return b"\n" + b"".join([f"{name}\t{count}\n".encode() for name, count in zip(names, samples, strict=True)])


def dictionary(num_clusters: int) -> bytes:
    """Give the content of ``dict.km.txt`` for so many clusters."""
    return "".join(f"{unit} 1\n" for unit in range(num_clusters)).encode()


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the units of each document, int32: without begin and end."""
    with open(os.path.join(folder, f"{name}{EXTENSION}"), "rb") as lines:
        for line in lines:
            yield np.array(line.split(), dtype=np.int32)
