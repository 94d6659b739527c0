"""A made-up corpus for benchmarks that read no audio: a manifest, and random tokens of its utterances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.loading import INDEX
from pipeline.store.completion import finish, success
from pipeline.store.dataset import Dataset, Output, Plan, canonical, parquet_bytes, sha256
from pipeline.store.reading import footer_sha256

RATE, HOP = 16_000, 320
NUM_CLUSTERS = 500
SHARD_SECONDS = 300.0
SPEAKERS = 40
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero")


def shards(hours: float) -> Iterator[list[dict[str, Any]]]:
    """Make up the rows of a manifest, shard by shard; ``num_frames`` is beside its columns."""
    rng, number = np.random.default_rng(0), 0
    for shard in range(round(hours * 3600 / SHARD_SECONDS)):
        rows, left = [], SHARD_SECONDS
        while left > 0:
            frames = int(rng.uniform(100, 600))
            rows.append(
                {
                    **dict.fromkeys(schema.MANIFEST.names),
                    "utterance_id": f"u{number:06d}",
                    "uri": f"/nowhere/speech/speaker-{number % SPEAKERS:03d}/chapter/u{number:06d}.flac",
                    "offset_samples": 0,
                    "num_samples": frames * HOP,
                    "sample_rate": RATE,
                    "channel": 0,
                    "shard": shard,
                    "speaker": f"speaker-{number % SPEAKERS:03d}",
                    "text": " ".join(rng.choice(WORDS, frames // 25)),
                    "num_frames": frames,
                }
            )
            left -= frames * HOP / RATE
            number += 1
        yield rows


def write_manifest(folder: Path, hours: float) -> str:
    """Write the manifest; gives its hash."""
    lineage = {"kind": "manifest", "roots": ["/nowhere"]}
    plan = Plan(kind="manifest", content={"hours": hours}, lineage=lineage, units=["manifest-00000"])
    dataset = Dataset.create(str(folder), plan)
    columns = schema.with_lineage(schema.MANIFEST, canonical(lineage))
    sink, index = pa.BufferOutputStream(), []
    with pq.ParquetWriter(sink, columns, write_page_checksum=True) as writer:
        for number, rows in enumerate(shards(hours)):
            writer.write_table(pa.Table.from_pylist(rows, schema=columns))
            place = {"shard": number, "file": "manifest-00000.parquet", "row_group": number}
            seconds = sum(row["num_samples"] for row in rows) / RATE
            index.append({**place, "num_rows": len(rows), "seconds": seconds})
    data = sink.getvalue()
    dataset.commit("manifest-00000", dataset.announce("manifest-00000"), Output(data=memoryview(data), rows=0), {})
    footer = footer_sha256(pa.BufferReader(data))
    rows_of_index = [{**place, "footer_sha256": footer} for place in index]
    dataset.store.write(INDEX, parquet_bytes(pa.Table.from_pylist(rows_of_index, schema=schema.MANIFEST_INDEX), {}))
    finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    return str(success(dataset)["dataset_sha256"])


def write_tokens(folder: Path, hours: float, columns: list[str], manifest_sha256: str) -> None:
    """Write random tokens of the utterances."""
    rng = np.random.default_rng(1)
    units = [f"shard-{number:05d}" for number in range(round(hours * 3600 / SHARD_SECONDS))]
    lineage = {
        "encoder": "made up",
        "encoder_sha256": "e" * 64,
        "sample_rate": RATE,
        "hop_length": HOP,
        "frame_rate": RATE / HOP,
        "codebooks": dict.fromkeys(columns, "c" * 64),
        "num_clusters": dict.fromkeys(columns, NUM_CLUSTERS),
    }
    plan = Plan(kind="tokens", content={"input_sha256": manifest_sha256}, lineage=lineage, units=units)
    dataset, fields = Dataset.create(str(folder), plan), schema.tokens(columns)
    for unit, rows in zip(units, shards(hours), strict=True):
        lengths = [row["num_frames"] for row in rows]
        values: dict[str, list[Any]] = {"utterance_id": [row["utterance_id"] for row in rows], "num_frames": lengths}
        values |= {name: [rng.integers(NUM_CLUSTERS, size=length) for length in lengths] for name in columns}
        cells = pa.table({field.name: pa.array(values[field.name], field.type) for field in fields}, schema=fields)
        output = Output(data=parquet_bytes(cells, lineage), rows=len(rows), seconds=sum(lengths) * HOP / RATE)
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)
