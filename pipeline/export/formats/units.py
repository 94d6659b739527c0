"""Units of one layer as text, for formats that know no other ids.

Shapes: N documents, U units, I ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.formats.arrays import Documents, Spelling

BATCH = 1 << 16
"""Numbers that are spelled at a time, so that their words stay in the cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerUnits:
    """The documents of a shard without special tokens.

    Attributes:
        units: int32 (U,), in [0, K).
        ends: int64 (N,), where each document ends in ``units``.
    """

    units: np.ndarray
    ends: np.ndarray


def check_one_layer(format_name: str, spelling: Spelling, *, masked: bool) -> None:
    """Refuse what units of one layer cannot express.

    Raises:
        SettingsError: There are several layers, unit BPE or a loss mask.
    """
    columns, others = spelling.pattern.columns, "megatron, nanotron, olmo, parquet and webdataset hold them"
    if len(columns) != 1:
        raise SettingsError(
            f"the format {format_name} holds the units of one layer, the pattern has {', '.join(columns)}; "
            f"export one layer, or another format: {others}"
        )
    if spelling.vocabulary.bpe is not None:
        raise SettingsError(
            f"the format {format_name} holds units, not the {spelling.vocabulary.bpe.size:,} ids of unit BPE; "
            f"export without BPE, or another format: {others}"
        )
    if masked:
        raise SettingsError(
            f"the format {format_name} has no place for a loss mask, nor for text between units; "
            f"export without interleaved text, or another format: {others}"
        )


def layer_units(documents: Documents, spelling: Spelling) -> LayerUnits:
    """Leave special tokens out, and count units from 0.

    Raises:
        CorruptDatasetError: An id is neither a unit of the layer nor a special token.
    """
    vocabulary = spelling.vocabulary
    block = vocabulary.layer(spelling.pattern.columns[0])
    units = documents.ids.astype(np.int32)
    units -= block.start
    others = np.flatnonzero(units.view(np.uint32) >= block.size)
    strange = documents.ids[others]
    strange = strange[(strange < vocabulary.units_end) | (strange >= vocabulary.used)]
    if len(strange):
        raise CorruptDatasetError(
            f"id {int(strange[0])} is neither a unit of {block.name} nor a special token; "
            "text and other layers need another format, as parquet"
        )
    ends = documents.ends - np.searchsorted(others, documents.ends)
    return LayerUnits(units=np.delete(units, others) if len(others) else units, ends=ends)


def spelled(numbers: np.ndarray, ends: np.ndarray, form: str, between: str = "") -> Iterator[bytes]:
    """Spell numbers in words, document by document.

    Args:
        numbers: Integers (U,), at least 0.
        ends: int64 (N,), where each document ends.
        form: How one is spelled, as ``"<Un%d>"``; ASCII.
        between: What stands between two of a document; ASCII.

    Yields:
        The text of each document.
    """
    words = pa.array([form % number + between for number in range(int(numbers.max(initial=-1)) + 1)], pa.string())
    bounds = np.concatenate([np.zeros(1, np.int64), ends])
    for first, last in _batches(ends):
        begin = bounds[first]
        # What Arrow takes is already the text: words end to end, and where each begins.
        taken = words.take(pa.array(numbers[begin : bounds[last]]))
        places = np.frombuffer(taken.buffers()[1], np.int32) if len(taken) else np.zeros(1, np.int32)
        text = memoryview(taken.buffers()[2] or b"")
        for start, end in pairwise(places[bounds[first : last + 1] - begin].tolist()):
            yield bytes(text[start : max(start, end - len(between))])


def _batches(ends: np.ndarray) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(ends):
        begin = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, begin + BATCH, side="right")))
        yield first, last
        first = last
