"""The tables of a study as Parquet: a row per trial and metric, and a row per trial and test utterance.

Written with the report, and read again where another run takes over what was found: they hold all of it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DatasetError
from pipeline.schema import LINEAGE_KEY
from pipeline.store.dataset import parquet_bytes
from pipeline.store.storage import Store
from pipeline.study.facts import Result
from pipeline.study.metrics import Part
from pipeline.study.statistics.collecting import Found

logger = logging.getLogger(__name__)

RESULTS, UTTERANCES = "results.parquet", "utterances.parquet"
_RESULTS = pa.schema(
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
        ("starts", pa.int64()),
        ("layer_use", pa.list_(pa.float64())),
        *((name, pa.string()) for name in ("folder", "command")),
    ]
)
_UTTERANCES = pa.schema(
    [
        *((name, pa.string()) for name in ("trial", "condition", "metric", "utterance_id", "group")),
        *((name, pa.float64()) for name in ("numerator", "denominator")),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the tables of a study say.

    Attributes:
        found: What trials found, by their keys.
        metrics: By which each trial was judged.
        data: What was read, by part (``data.py``).
    """

    found: Mapping[str, Found]
    metrics: Mapping[str, str]
    data: Mapping[str, str]


def results_bytes(results: Sequence[Result], data: Mapping[str, str]) -> memoryview:
    """Give ``results.parquet``: the fields of ``Result``, and in the footer what was read.

    Args:
        results: Its rows.
        data: By part (``data.py``).
    """
    return parquet_bytes(
        pa.Table.from_pylist([asdict(each) for each in results], schema=_RESULTS), {"data": dict(data)}
    )


def utterances_bytes(found: Mapping[str, Found], metrics: Mapping[str, str]) -> memoryview:
    """Give ``utterances.parquet``: what each test utterance gives to the metric that its task is judged by.

    Args:
        found: By the keys of trials.
        metrics: By which tasks are judged.
    """
    rows = [
        {"trial": key, "condition": condition, "metric": metrics[each.results[0].task], "utterance_id": name}
        | asdict(part)
        for key, each in found.items()
        for condition, parts in each.parts.items()
        for name, part in parts.items()
    ]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=_UTTERANCES), {})


def read_tables(store: Store) -> Tables:
    """Read the tables that a study wrote.

    Args:
        store: Of the folder that they lie in.

    Raises:
        DatasetError: They are not there, or are not those of a study of this version.
    """
    results, parts, metrics = dict[str, list[Result]](), dict[str, dict[str, dict[str, Part]]](), dict[str, str]()
    table = _table(store, RESULTS, _RESULTS)
    for row in table.to_pylist():
        named: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        results.setdefault(row["trial"], []).append(Result(**named))
    inner = [each.name for each in fields(Part)]
    for row in _table(store, UTTERANCES, _UTTERANCES).to_pylist():
        given = Part(**{name: row[name] for name in inner})
        parts.setdefault(row["trial"], {}).setdefault(row["condition"], {})[row["utterance_id"]] = given
        metrics[row["trial"]] = row["metric"]
    if bare := len(results.keys() - parts.keys()):
        logger.warning("%d trials of %s have no test utterances there, and are not taken over", bare, store.uri)
    found = {key: Found(results=tuple(mine), parts=parts[key]) for key, mine in results.items() if key in parts}
    return Tables(found=found, metrics=metrics, data=json.loads(table.schema.metadata[LINEAGE_KEY])["data"])


def _table(store: Store, name: str, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(store.read(name)), page_checksum_verification=True)
    except FileNotFoundError as error:
        raise DatasetError(f"{store.uri} has no {name}; give the folder of a study's report") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{store.uri}: {name} cannot be read: {error}") from error
    told = table.schema.metadata or {}
    if table.schema.names != schema.names or table.schema.types != schema.types or LINEAGE_KEY not in told:
        raise DatasetError(
            f"{store.uri}: {name} has the columns {', '.join(table.schema.names)}, not {', '.join(schema.names)}, or "
            "others of these names; it is not a study's, or one of another version: run that study again to write its "
            "tables anew"
        )
    return table
