"""JSON lines of SlamKit, a document a line, for one layer. Experimental: the tests imitate its reader.

    units       the units of the document, counted from 0; deduplicated where the pattern is
    duration    frames that each lasted; 1 where the pattern does not deduplicate
    file_name   uri of the first utterance, or the document's id where there is none
    audio_repr  the units as SlamKit spells them, ``<Un17><Un402>``
    document_id

``cli/prepare_tokens.py`` reads ``units`` and makes ``audio_repr`` of them; ``cli/train.py`` reads ``audio_repr``. With
both in it, a line serves either. Begin and end of a document are left out: SlamKit's tokenizer sets its own.

Source: slp-rl/slamkit: cli/extract_features.py, cli/prepare_tokens.py, slamkit/tokeniser/unit_tokeniser.py,
slamkit/data/hf_dataset.py.
"""

import json
import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorruptDatasetError
from pipeline.export.formats.arrays import Bytes, Documents, Spelling
from pipeline.export.formats.files import first_of, json_cells
from pipeline.export.formats.units import LayerUnits, check_one_layer, layer_units, spelled

EXTENSION = ".jsonl"


def check(spelling: Spelling, *, masked: bool) -> None:
    """Refuse what units of one layer cannot express.

    Raises:
        SettingsError: There are several layers, unit BPE or a loss mask.
    """
    check_one_layer("slamkit", spelling, masked=masked)


def write(documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
    """Lay a shard out.

    Raises:
        CorruptDatasetError: An id is no unit of the layer, or durations are missing.
    """
    found = layer_units(documents, spelling)
    ids = first_of(documents, "document_id")
    names = json_cells(pc.coalesce(first_of(documents, "uri"), ids).to_pylist())
    cells = zip(
        spelled(found.units, found.ends, "%d", ", "),
        _durations(documents, found, spelling),
        names,
        spelled(found.units, found.ends, "<Un%d>"),
        json_cells(ids.to_pylist()),
        strict=True,
    )
    # Three times as fast as BytesIO here, and as a list of lines that is joined.
    lines = pa.BufferOutputStream()
    for units, lasted, name, audio_repr, document_id in cells:
        lines.write(
            b'{"units": [%b], "duration": [%b], "file_name": %b, "audio_repr": "%b", "document_id": %b}\n'
            % (units, lasted, name.encode(), audio_repr, document_id.encode())
        )
    return {EXTENSION: memoryview(lines.getvalue())}


def _durations(documents: Documents, found: LayerUnits, spelling: Spelling) -> Iterator[bytes]:
    if not spelling.pattern.deduplicate:
        return ((b"1, " * count)[:-2] for count in np.diff(found.ends, prepend=0).tolist())
    column = documents.meta["durations"]
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    # How many durations each document has, by sums up to its first row.
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[documents.first_rows[1:]]
    if not np.array_equal(ends, found.ends):
        raise CorruptDatasetError("a deduplicated document needs a duration for each of its units; tokenise it again")
    return spelled(pc.list_flatten(column).to_numpy(), ends, "%d", ", ")


def read(folder: str, name: str) -> Iterator[np.ndarray]:
    """Give the units of each document, int32, as ``units`` has them: without begin and end."""
    with open(os.path.join(folder, f"{name}{EXTENSION}"), "rb") as lines:
        for line in lines:
            yield np.array(json.loads(line)["units"], dtype=np.int32)
