"""Speed and memory of the writers of exports, beside datatrove's Megatron writer on the same ids.

    python -m bench.export_writers [--formats megatron parquet ...] [--deduplicate] [--memory] [--json FILE]

Timed, in one process with one thread, by turns: CPU seconds, so that what else runs on the machine counts little, from
ids of one shard in memory until its files are closed in a local folder (page cache, no fsync). Ours is ``write`` of a
format, from the flat arrays that an export assembles, and writing what it gives; provenance (``.meta.parquet``, spans,
JSON, utterances) is in it. datatrove's is ``MegatronTokenizedFile`` as ``MegatronDocumentTokenizer.write_tokens`` uses
it: one ``write`` of a list of ids for each document, then ``close``. Lists are what its tokenizer gives; they are made
before the clock starts, text tokenisation and statistics are left out, and it writes no provenance. ``datatrove,
arrays`` gives it numpy arrays instead of lists, which its own pipeline never does.

``--memory`` writes shards of a constant size up to each number of documents, each case in a child of its own, and gives
the child's peak resident memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.measuring import machine, peak_bytes, run_child, table, write_json
from pipeline.export.formats.arrays import META, Documents, Spelling
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import BEGIN, END, Vocabulary

BASELINE = "datatrove, lists"
RATE = 50


def spelling(case: dict[str, Any]) -> Spelling:
    """Give one layer's vocabulary."""
    vocabulary = Vocabulary.build({"layer_07": case["num_clusters"]}, text_size=case["text_size"])
    pattern = Pattern(columns=("layer_07",), delays=(0,), deduplicate=case["deduplicate"])
    return Spelling(vocabulary=vocabulary, pattern=pattern, frame_rate=float(RATE), lineage={"bench": "made"})


def shard(case: dict[str, Any], num_documents: int, seed: int) -> Documents:
    """Make documents of one utterance each, whose lengths spread as those of read speech do.

    Args:
        case: ``mean_ids``, ``deduplicate`` and what ``spelling`` needs.
        num_documents: How many.
        seed: Seed of lengths and units.
    """
    rng, vocabulary = np.random.default_rng(seed), spelling(case).vocabulary
    lengths = np.maximum(3, rng.gamma(4.0, case["mean_ids"] / 4, num_documents).astype(np.int64))
    ends = np.cumsum(lengths)
    starts, units = ends - lengths, lengths - 2
    ids = rng.integers(vocabulary.units_start, vocabulary.units_end, int(ends[-1])).astype(vocabulary.dtype)
    ids[starts], ids[ends - 1] = vocabulary.special(BEGIN), vocabulary.special(END)
    durations = pa.nulls(num_documents, META.field("durations").type)
    frames = units
    if case["deduplicate"]:
        lasted = rng.geometric(0.6, int(units.sum())).astype(np.int32)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(units)])
        durations = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(lasted))
        frames = np.add.reduceat(lasted, offsets[:-1])
    numbers = range(seed * num_documents, (seed + 1) * num_documents)
    names = pa.array([f"{number % 1000}-{number // 1000 % 977}-{number:08d}" for number in numbers])
    columns = {
        "document": pa.array(np.arange(num_documents)),
        "document_id": names,
        "start": pa.array(np.ones(num_documents, np.int64)),
        "num_ids": pa.array(units),
        "utterance_id": names,
        "first_frame": pa.array(np.zeros(num_documents, np.int64)),
        "num_frames": pa.array(frames, pa.int64()),
        "uri": pa.array([f"s3://bucket/corpus/train/{number % 1000}/{number:08d}.flac" for number in numbers]),
        "offset_seconds": pa.array(np.zeros(num_documents)),
        "seconds": pa.array(frames / RATE),
        "speaker": pa.array([str(number % 1000) for number in numbers]),
        "language": pa.array(["en"] * num_documents),
        "text": pa.nulls(num_documents, pa.string()),
        "durations": durations,
    }
    return Documents(ids=ids, ends=ends, meta=pa.table(columns).cast(META))


def ours(form: str, documents: Documents, given: Spelling, folder: Path) -> None:
    """Write a shard in a format."""
    # A copy without what earlier calls have worked out and kept.
    for ending, content in FORMATS[form].write(replace(documents), given).items():
        (folder / f"shard{ending}").write_bytes(content)


def datatrove(documents: list[Any], token_size: int, folder: Path) -> None:
    """Write documents as datatrove's pipeline step does once it has their ids."""
    from datatrove.pipeline.tokens.megatron_tokenizer import MegatronTokenizedFile

    file = MegatronTokenizedFile(str(folder), "theirs", token_size=token_size)
    for ids in documents:
        file.write(ids)
    file.close()


def cpu_seconds(work: Callable[[], None]) -> float:
    """Give the CPU time of one call, that of all threads of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure_speed(case: dict[str, Any]) -> dict[str, Any]:
    """Time all contenders by turns: CPU seconds of each pass."""
    given = spelling(case)
    documents = shard(case, max(1, case["ids"] // case["mean_ids"]), seed=0)
    arrays = np.split(documents.ids, documents.ends[:-1])
    lists, itemsize = [ids.tolist() for ids in arrays], documents.ids.dtype.itemsize
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders: dict[str, Callable[[], None]] = {
            BASELINE: lambda: datatrove(lists, itemsize, folder),
            "datatrove, arrays": lambda: datatrove(arrays, itemsize, folder),
        }
        for form in case["formats"]:
            contenders[form] = lambda form=form: ours(form, documents, given, folder)  # type: ignore[misc]
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for work in contenders.values():
            work()
        for name in list(contenders) * case["repeats"]:
            seconds[name].append(cpu_seconds(contenders[name]))
        sizes = {form: sum(map(len, FORMATS[form].write(documents, given).values())) for form in case["formats"]}
    return {
        "documents": len(documents),
        "ids": len(documents.ids),
        "seconds": seconds,
        "bytes_an_id": {form: round(size / len(documents.ids), 2) for form, size in sizes.items()},
    }


def measure_memory(case: dict[str, Any]) -> dict[str, Any]:
    """Write so many documents in shards of a constant size, each over the one before it: peak memory."""
    given, form = spelling(case), case["form"]
    with tempfile.TemporaryDirectory() as name:
        for seed in range(max(1, case["documents"] // case["shard_documents"])):
            ours(form, shard(case, min(case["documents"], case["shard_documents"]), seed), given, Path(name))
    return {"peak_mb": round(peak_bytes() / 1e6)}


def speed_rows(found: dict[str, Any]) -> list[list[object]]:
    """Lay speeds out: million ids a CPU second, median and range, and the median of ratios to the baseline by turns."""
    rows: list[list[object]] = []
    for name, seconds in found["seconds"].items():
        speeds = sorted(found["ids"] / each / 1e6 for each in seconds)
        ratios = [base / each for base, each in zip(found["seconds"][BASELINE], seconds, strict=True)]
        middle = f"{statistics.median(speeds):.1f}"
        spread = f"{speeds[0]:.1f} to {speeds[-1]:.1f}"
        rows.append([name, middle, spread, f"{statistics.median(ratios):.2f}", found["bytes_an_id"].get(name, "")])
    return rows


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--ids", type=int, default=5_000_000, help="ids of the shard that is timed")
    parser.add_argument("--mean-ids", type=int, default=600, help="ids of a document; 600 are 12 s at 50 Hz")
    parser.add_argument("--num-clusters", type=int, default=500)
    parser.add_argument("--text-size", type=int, default=0, help="text ids before the units; 70000 makes ids int32")
    parser.add_argument("--deduplicate", action="store_true", help="durations go with the ids, one for each")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="also the peak memory of many documents")
    parser.add_argument("--documents", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--shard-documents", type=int, default=10_000, help="documents of a shard, for --memory")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    case = {key: value for key, value in vars(given).items() if key not in ("json", "memory")}
    found: dict[str, Any] = {"machine": machine(), "case": case}
    found["speed"] = run_child("bench.export_writers", case | {"ask": "speed"})
    print(f"{found['speed']['documents']:,} documents, {found['speed']['ids']:,} ids, one thread\n")
    print(
        table(
            ["writer", "million ids a CPU second", "range", "to datatrove", "bytes an id"], speed_rows(found["speed"])
        )
    )
    if given.memory:
        found["memory"], rows = [], []
        for form in given.formats:
            row: list[object] = [form]
            for documents in given.documents:
                asked = case | {"ask": "memory", "form": form, "documents": documents}
                peak = run_child("bench.export_writers", asked)["peak_mb"]
                found["memory"].append({"form": form, "documents": documents, "peak_mb": peak})
                row.append(peak)
            print(*row, file=sys.stderr)
            rows.append(row)
        print("\npeak MB of a process that writes so many documents")
        print(table(["writer", *(f"{documents:,}" for documents in given.documents)], rows))
    write_json(given.json, found)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        asked = json.loads(sys.argv[1])
        print(json.dumps({"speed": measure_speed, "memory": measure_memory}[asked["ask"]](asked)))
    else:
        main()
