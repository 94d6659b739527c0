"""Decoded utterances as one Arrow stream, the form in which they cross Ray's object store."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.shards import Utterance


def pack(utterances: Sequence[Utterance]) -> bytes:
    """Put utterances into one Arrow stream: int16 stays int16, so lossless audio costs half."""
    table = pa.table(
        {
            "utterance_id": [u.utterance_id for u in utterances],
            "uri": [u.uri for u in utterances],
            "dtype": [u.samples.dtype.str if u.samples is not None else None for u in utterances],
            "samples": pa.array(
                [u.samples.tobytes() if u.samples is not None else None for u in utterances], pa.large_binary()
            ),
            "seconds": pa.array([u.seconds for u in utterances], pa.float64()),
            "reason": pa.array([u.problem[0] if u.problem else None for u in utterances], pa.string()),
            "detail": pa.array([u.problem[1] if u.problem else None for u in utterances], pa.string()),
            "source": pa.array([json.dumps(u.source) if u.source else None for u in utterances], pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack(payload: pa.Buffer) -> list[Utterance]:
    """Give back what ``pack`` took; waveforms are views into the payload."""
    table = pa.ipc.open_stream(payload).read_all()
    samples = table["samples"].combine_chunks() if table.num_rows else []
    columns = table.drop_columns(["samples"]).to_pylist()
    return [
        Utterance(
            utterance_id=row["utterance_id"],
            uri=row["uri"],
            samples=np.frombuffer(cell.as_buffer(), np.dtype(row["dtype"])) if row["dtype"] else None,
            seconds=row["seconds"],
            problem=(row["reason"], row["detail"]) if row["reason"] else None,
            source=json.loads(row["source"]) if row["source"] else None,
        )
        for row, cell in zip(columns, samples, strict=True)
    ]
