"""Peak memory of train_task as the corpus grows: it should not.

    python -m bench.task_memory [--hours 1 10] [--tasks asr sid] [--layers 6] [--steps 20] [--json FILE]

Manifest and tokens are made up: utterances of 2 to 12 s in shards of 5 minutes, random tokens of K = 500, texts of
random words, 40 speakers. No audio is there, because training reads none. Each run has as many steps, in one process
(``--runner here``); the resident memory of the job and all of its processes is sampled twice a second.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measuring import table, write_json
from bench.memory import sampled_run
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


def run(task: str, corpus: Path, output: Path, steps: int) -> dict[str, Any]:
    """Train a task of its small preset and give the peaks of its processes, and its report."""
    return sampled_run(
        "train_task",
        *("--preset", f"{task}_small", "--manifest", corpus / "manifest", "--tokens", corpus / "tokens"),
        *("--output", output, "--num-steps", steps, "--runner", "here", "--threads-per-worker", 1),
        *("--batch-seconds", 30, "--validate-every", steps // 2, "--checkpoint-every", steps, "--warmup-steps", 10),
        *("--embedding-dim", 192),
    )


def main() -> None:
    """Measure each task with each length and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--tasks", nargs="+", choices=["asr", "sid"], default=["asr", "sid"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for hours in given.hours:
            corpus = Path(name) / f"{hours:g}h"
            digest = write_manifest(corpus / "manifest", hours)
            columns = [schema.layer_column(layer) for layer in range(1, given.layers + 1)]
            write_tokens(corpus / "tokens", hours, columns, digest)
            for task in given.tasks:
                made = run(task, corpus, corpus / task, given.steps)
                peaks = {role: made["peaks"][role] for role in ("driver", "all processes")}
                found.append({"task": task, "hours": hours, "wall_seconds": made["wall_seconds"], "peaks": peaks})
                print(found[-1], flush=True)
    rows = []
    for task in given.tasks:
        sizes = [each["peaks"]["all processes"] for each in found if each["task"] == task]
        rows.append([task, *(f"{size / 2**20:.0f}" for size in sizes), f"{sizes[-1] / sizes[0]:.3f}"])
    print(table(["task", *(f"{hours:g} h, MiB" for hours in given.hours), "last / first"], rows))
    write_json(given.json, {"runs": found, "steps": given.steps, "layers": given.layers})


if __name__ == "__main__":
    main()
