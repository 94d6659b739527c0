"""Rows of a sequences dataset, made by hand."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.export.ids.bpe import UnitBpe
from pipeline.export.ids.patterns import Pattern, encode
from pipeline.export.ids.vocabulary import Vocabulary

FRAME_RATE = 50.0


def stretch(
    utterance_id: str,
    tokens: dict[str, list[int]],
    pattern: Pattern,
    vocabulary: Vocabulary,
    *,
    bpe: UnitBpe | None = None,
    first_frame: int = 0,
    valid: bool = False,
    speaker: str | None = None,
    language: str | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """Make a row: tokens by column become ids; ``changed`` sets other columns."""
    found = encode({column: np.array(values, np.uint16) for column, values in tokens.items()}, pattern, vocabulary)
    ids = found.ids if bpe is None else bpe.encode(found.ids)
    num_frames = len(tokens[pattern.columns[0]])
    row = {
        "utterance_id": utterance_id,
        "first_frame": first_frame,
        "num_frames": num_frames,
        "num_kept": num_frames if found.durations is None else len(found.durations),
        "num_ids": len(ids),
        "document_id": utterance_id,
        "document": 0,
        "valid": valid,
        "ids": vocabulary.check(ids).tobytes(),
        "durations": None if found.durations is None else found.durations.astype("<i4").tobytes(),
        "loss_mask": None,
        "prefix": [],
        "uri": None,
        "offset_seconds": None,
        "seconds": num_frames / FRAME_RATE,
        "speaker": speaker,
        "language": language,
        "text": None,
    }
    return row | changed


def sequences(rows: list[dict[str, Any]]) -> pa.Table:
    """Make a table of ``schema.SEQUENCES``."""
    return pa.Table.from_pylist(rows, schema.SEQUENCES)
