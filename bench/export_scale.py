"""What an export's driver and workers need as documents grow: memory of planning the shards, and of making one.

    python -m bench.export_scale [--rows 1000000 2000000 4000000] [--ids 750] [--order source|shuffled]
        [--documents 10000 100000 1000000] [--json FILE]

Rows are planned as ``export_tokens`` plans them, from arrays as its driver reads them, in a child process of its own
for each number of rows; peak resident memory is that of the child, less that of a child that plans a hundred rows.
Slopes are bytes a row. Then one shard of 100 million ids is assembled and written as Megatron, from rows in memory.

``--documents`` runs the job itself, on Ray, on made tokens of so many utterances of 100 frames, 10,000 in a unit, with
shards of 10 million ids in Megatron's format, and tells its time and the largest memory of driver and workers.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.measuring import machine, peak_bytes, run_child, table, write_json
from bench.memory import sampled_run
from pipeline import schema
from pipeline.export.formats import megatron
from pipeline.export.formats.arrays import Spelling
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary
from pipeline.export.shards.assembling import assemble
from pipeline.export.shards.planning import Rows, ShardSettings, plan_shards
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes

SHARD_IDS = 100_000_000
UTTERANCES, FRAMES = 10_000, 100
PER_UNIT = 120
"""Utterances of a unit: 30 minutes in stretches of 15 s."""


def plan(case: dict[str, Any]) -> dict[str, Any]:
    """Plan the shards of so many rows."""
    rng = np.random.default_rng(0)
    count = case["rows"]
    rows = Rows(
        unit=(np.arange(count) // PER_UNIT).astype(np.int32),
        row=(np.arange(count) % PER_UNIT).astype(np.int32),
        document=rng.integers(0, 1 << 64, count, dtype=np.uint64),
        num_ids=rng.integers(case["ids"] // 2, 3 * case["ids"] // 2, count),
        framing=np.full(count, 2),
        offset=np.zeros(count),
        valid=rng.random(count) < 0.01,
    )
    start = time.perf_counter()
    shards = plan_shards(rows, ShardSettings(shard_ids=SHARD_IDS, order=case["order"]))
    return {"seconds": time.perf_counter() - start, "shards": len(shards), "peak_bytes": peak_bytes()}


def write(case: dict[str, Any]) -> dict[str, Any]:
    """Assemble and write one shard of so many ids."""
    vocabulary = Vocabulary.build({"layer_07": 1_000})
    count = case["shard_ids"] // case["ids"]
    ids = np.random.default_rng(0).integers(0, 1_000, case["ids"]).astype(vocabulary.dtype).tobytes()
    values: dict[str, Any] = {
        "utterance_id": [f"utterance-{number:010d}" for number in range(count)],
        "document_id": [f"utterance-{number:010d}" for number in range(count)],
        "ids": pa.array([ids] * count, pa.large_binary()),
        "prefix": [[]] * count,
    }
    constants = {"first_frame": 0, "num_frames": case["ids"], "num_kept": case["ids"], "num_ids": case["ids"]}
    constants |= {"document": 0, "valid": False, "offset_seconds": 0.0, "seconds": case["ids"] / 50}
    columns = {
        field.name: pa.array(values[field.name], field.type)
        if field.name in values
        else pa.array([constants.get(field.name)] * count, field.type)
        for field in schema.SEQUENCES
    }
    rows, before = pa.table(columns, schema=schema.SEQUENCES), peak_bytes()
    start = time.perf_counter()
    documents = assemble(rows, np.arange(count, dtype=np.int32), vocabulary)
    assembled = time.perf_counter() - start
    pattern = Pattern(columns=("layer_07",), delays=(0,))
    files = megatron.write(documents, Spelling(vocabulary=vocabulary, pattern=pattern, frame_rate=50.0, lineage={}))
    return {
        "assemble_seconds": assembled,
        "seconds": time.perf_counter() - start,
        "bytes": sum(len(content) for content in files.values()),
        "input_bytes": rows.nbytes,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
    }


def export(count: int, order: str) -> dict[str, Any]:
    """Run export_tokens on made tokens of so many utterances."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tokens(folder / "tokens", count)
        start = time.perf_counter()
        report = sampled_run(
            "export_tokens",
            *("--tokens", folder / "tokens", "--output", folder / "export", "--formats", "megatron"),
            *("--order", order, "--shard-ids", 10_000_000),
        )
        return {"seconds": time.perf_counter() - start, "shards": report["shards"], "peaks": report["peaks"]}


def make_tokens(folder: Path, count: int) -> None:
    """Write a tokens dataset of utterances of 100 frames of one layer, K = 1,000."""
    units = [f"shard-{number:05d}" for number in range(-(-count // UTTERANCES))]
    lineage = {"encoder": "made", "encoder_sha256": "", "frame_rate": 50.0, "hop_length": 320}
    lineage |= {"codebooks": {"layer_07": ""}, "num_clusters": {"layer_07": 1_000}}
    dataset = Dataset.create(str(folder), Plan(kind="tokens", content={}, lineage=lineage, units=units))
    rng = np.random.default_rng(0)
    for number, unit in enumerate(units):
        held = min(UTTERANCES, count - number * UTTERANCES)
        ids = pa.array(rng.integers(0, 1_000, held * FRAMES).astype(np.uint16))
        columns = {
            "utterance_id": [f"utterance-{number * UTTERANCES + place:010d}" for place in range(held)],
            "num_frames": pa.array([FRAMES] * held, pa.int32()),
            "layer_07": pa.ListArray.from_arrays(pa.array(np.arange(held + 1) * FRAMES, pa.int32()), ids),
        }
        table = pa.table(columns).cast(schema.tokens(["layer_07"]))
        output = Output(
            data=parquet_bytes(table, lineage), rows=held, seconds=held * FRAMES / 50, num_frames=held * FRAMES
        )
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)


def main() -> None:
    """Measure, and print tables."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        case = json.loads(sys.argv[1])
        print(json.dumps({"plan": plan, "write": write}[case["what"]](case)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 2_000_000, 4_000_000])
    parser.add_argument("--ids", type=int, default=750, help="ids of an utterance: 15 s of one layer")
    parser.add_argument("--order", choices=("source", "shuffled"), default="source")
    parser.add_argument("--documents", type=int, nargs="*", default=[], help="utterances that the job exports")
    parser.add_argument("--shard-ids", type=int, default=SHARD_IDS)
    parser.add_argument("--json", help="file for the figures")
    given = parser.parse_args()
    base = run_child("bench.export_scale", {"what": "plan", "rows": 100, "ids": given.ids, "order": given.order})
    plans = {
        count: run_child("bench.export_scale", {"what": "plan", "rows": count, "ids": given.ids, "order": given.order})
        for count in given.rows
    }
    rows = [
        [
            f"{count:,}",
            f"{found['seconds']:.2f} s",
            f"{found['shards']}",
            f"{(found['peak_bytes'] - base['peak_bytes']) / 1e6:,.0f} MB",
            f"{(found['peak_bytes'] - base['peak_bytes']) / count:.0f}",
        ]
        for count, found in plans.items()
    ]
    print(table(["rows", "planning", "shards", "memory", "bytes a row"], rows))
    wrote = run_child("bench.export_scale", {"what": "write", "ids": given.ids, "shard_ids": given.shard_ids})
    print(
        f"\none shard of {given.shard_ids:,} ids: {wrote['seconds']:.2f} s ({wrote['assemble_seconds']:.2f} s of them "
        f"to assemble), peak {wrote['peak_bytes'] / 1e6:,.0f} MB, {wrote['before_bytes'] / 1e6:,.0f} MB of them before"
    )
    exports = {count: export(count, given.order) for count in given.documents}
    if exports:
        rows = [
            [
                f"{count:,}",
                f"{found['seconds']:.0f} s",
                f"{found['shards']}",
                *(f"{found['peaks'][role] / 1e6:,.0f} MB" for role in ("driver", "largest worker, own")),
            ]
            for count, found in exports.items()
        ]
        print("\n" + table(["documents", "job", "shards", "driver", "largest worker"], rows))
    if given.json:
        write_json(given.json, {"machine": machine(), "base": base, "plans": plans, "write": wrote, "exports": exports})


if __name__ == "__main__":
    main()
