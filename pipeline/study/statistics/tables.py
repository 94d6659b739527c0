"""The tables of a study as Parquet: a row per trial and metric, and a row per trial and test utterance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa

from pipeline.store.dataset import parquet_bytes
from pipeline.study.facts import Result
from pipeline.study.statistics.collecting import Found

RESULTS = pa.schema(
    [
        *((name, pa.string()) for name in ("trial", "task", "factor", "level")),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("condition", "metric")),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("utterances", pa.int64()),
        ("encoder", pa.string()),
        ("layers", pa.list_(pa.int64())),
        ("num_clusters", pa.int64()),
        ("codebooks_of", pa.list_(pa.string())),
        *((name, pa.float64()) for name in ("bits_per_second", "seconds", "overhead_seconds")),
        *((name, pa.string()) for name in ("folder", "command")),
    ]
)
UTTERANCES = pa.schema(
    [
        *((name, pa.string()) for name in ("trial", "condition", "utterance_id", "group")),
        *((name, pa.float64()) for name in ("numerator", "denominator")),
    ]
)


def results_bytes(results: Sequence[Result]) -> memoryview:
    """Give ``results.parquet``: the fields of ``Result``."""
    return parquet_bytes(pa.Table.from_pylist([asdict(each) for each in results], schema=RESULTS), {})


def utterances_bytes(found: Mapping[str, Found]) -> memoryview:
    """Give ``utterances.parquet``: what each test utterance gives to the metric that its task is judged by."""
    rows = [
        {"trial": key, "condition": condition, "utterance_id": name, **asdict(part)}
        for key, each in found.items()
        for condition, parts in each.parts.items()
        for name, part in parts.items()
    ]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=UTTERANCES), {})
