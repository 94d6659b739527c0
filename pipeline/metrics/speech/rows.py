"""What judges say of utterances as rows of a table, one per (utterance, condition)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import Judge

Row = dict[str, Any]

ROWS_AT_ONCE = 1000
"""Rows per row group of the Parquet file."""
ERRORS, LENGTH = "_errors", "_length"
"""What ends the columns of a counted measure, beside its rate."""


def row_schema(judges: Sequence[Judge]) -> pa.Schema:
    """Give the columns of the rows of these judges.

    A measure is a float64 column, null where it has no value; a counted one has two further columns of integers. The
    list ``unjudged`` has the measure, the reason and a sentence for each null.

    Raises:
        SettingsError: Two judges give the same column.
    """
    fields = [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("lag_samples", pa.int32()),
    ]
    for judge in judges:
        for measure in judge.measures:
            fields.append(pa.field(measure.name, pa.float64()))
            if measure.counted:
                fields += [pa.field(measure.name + ending, pa.int32()) for ending in (ERRORS, LENGTH)]
        fields += [pa.field(name, pa.string()) for name in judge.texts]
    why = pa.struct([pa.field(name, pa.string(), nullable=False) for name in ("measure", "reason", "detail")])
    fields.append(pa.field("unjudged", pa.list_(why), nullable=False))
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"two judges give {twice[0]}; name each judge once")
    return pa.schema(fields)


def write_rows(rows: Iterable[Row], judges: Sequence[Judge], path: Path) -> int:
    """Write rows as Parquet, 1,000 per row group, and give their number.

    Args:
        rows: Of ``judge_pairs``; taken as they come.
        judges: Who gave them.
        path: The file; one that is there is replaced.
    """
    import pyarrow.parquet as pq

    schema, group, count = row_schema(judges), [], 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in rows:
            group.append(row)
            count += 1
            if len(group) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return count
