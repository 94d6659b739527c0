"""Decoded utterances as one Arrow stream, the form in which they cross Ray's object store.

Packing copies every sample once, into a buffer of the right size: a decode task holds a shard twice, not more.
"""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.work.units import Utterance

_SCHEMA = pa.schema(
    {
        "utterance_id": pa.string(),
        "uri": pa.string(),
        "dtype": pa.string(),
        "samples": pa.large_binary(),
        "seconds": pa.float64(),
        "reason": pa.string(),
        "detail": pa.string(),
        "source": pa.string(),
        "passed_over": pa.string(),
    }
)


def pack(utterances: Sequence[Utterance]) -> pa.Buffer:
    """Put utterances into one Arrow stream: int16 stays int16, so lossless audio costs half."""
    batches = [_batch(utterance) for utterance in utterances]
    size = pa.MockOutputStream()
    _write(size, batches)
    buffer = pa.allocate_buffer(size.size())
    _write(pa.FixedSizeBufferWriter(buffer), batches)
    return buffer


def _batch(utterance: Utterance) -> pa.RecordBatch:
    samples = utterance.samples
    row = {
        "utterance_id": utterance.utterance_id,
        "uri": utterance.uri,
        "dtype": samples.dtype.str if samples is not None else None,
        "seconds": utterance.seconds,
        "reason": utterance.problem[0] if utterance.problem else None,
        "detail": utterance.problem[1] if utterance.problem else None,
        "source": json.dumps(utterance.source) if utterance.source else None,
        "passed_over": json.dumps(utterance.passed_over) if utterance.passed_over else None,
    }
    cells = {field.name: pa.array([row.get(field.name)], field.type) for field in _SCHEMA}
    if samples is not None:
        cells["samples"] = binary_cell(pa.py_buffer(np.ascontiguousarray(samples)))
    return pa.record_batch(list(cells.values()), schema=_SCHEMA)


def binary_cell(data: pa.Buffer) -> pa.LargeBinaryArray:
    """Give a column of one row that holds these bytes, not copied."""
    offsets = np.array([0, data.size], np.int64)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), data])


def _write(sink: pa.NativeFile, batches: Sequence[pa.RecordBatch]) -> None:
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)


def unpack(payload: pa.Buffer) -> list[Utterance]:
    """Give back what ``pack`` took; waveforms are views into the payload."""
    return [_utterance(batch) for batch in pa.ipc.open_stream(payload)]


def _utterance(batch: pa.RecordBatch) -> Utterance:
    (row,) = batch.drop_columns(["samples"]).to_pylist()
    samples = np.frombuffer(batch["samples"][0].as_buffer(), np.dtype(row["dtype"])) if row["dtype"] else None
    return Utterance(
        utterance_id=row["utterance_id"],
        uri=row["uri"],
        samples=samples,
        seconds=row["seconds"],
        problem=(row["reason"], row["detail"]) if row["reason"] else None,
        source=json.loads(row["source"]) if row["source"] else None,
        passed_over=json.loads(row["passed_over"]) if row["passed_over"] else None,
    )
