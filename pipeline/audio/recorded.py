"""A manifest of recordings that a stage wrote as cells of Parquet, so that every other job reads them.

Their ids and labels stay as they are: each column of the dataset that a manifest has too becomes that column.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.loading import INDEX, RECORDINGS
from pipeline.audio.manifest_files import CANDIDATES_PER_FILE, commit_rows
from pipeline.store.completion import finish, success, unless_finished
from pipeline.store.dataset import Dataset, Plan, sha256
from pipeline.store.storage import join

MANIFEST = "_manifest"
_AUDIO = "audio"


def write_recorded_manifest(recorded: Dataset) -> Dataset:
    """Write the manifest of a finished dataset of recordings into its folder; one that is there stays.

    Args:
        recorded: The dataset, as of ``schema.SPEECH``; only its small columns are read.

    Returns:
        The manifest, RECORDED/_manifest.
    """
    digest = success(recorded)["dataset_sha256"]
    origin = {f"{recorded.plan.kind}_sha256": digest}
    numbers = range(max(1, -(-sum(commit.data.rows for commit in recorded.commits()) // CANDIDATES_PER_FILE)))
    plan = Plan(
        kind="manifest",
        content={**origin, "uri": recorded.uri},
        lineage={
            "kind": "manifest",
            "schema_version": schema.SCHEMA_VERSION,
            "roots": [recorded.uri],
            "layout": "parquet",
            **origin,
        },
        units=[f"manifest-{number:05d}" for number in numbers],
        totals={"rows": sum(commit.data.rows for commit in recorded.commits())},
    )
    manifest = Dataset.create(join(recorded.uri, MANIFEST), plan)
    if manifest.finished():
        return manifest
    rows = pa.concat_tables([schema.MANIFEST.empty_table(), *(_rows(recorded, unit) for unit in recorded.plan.units)])
    with unless_finished(manifest):
        notes = {RECORDINGS: {"whole": rows.num_rows, "parts": 0}}
        commit_rows(manifest, rows, schema.REJECTS.empty_table(), None, notes)
    finish(manifest, extra={"index_sha256": sha256(manifest.store.read(INDEX))})
    return manifest


def _rows(recorded: Dataset, unit: str) -> pa.Table:
    """Say where the recordings of a shard lie, as the layout parquet does."""
    name = recorded.data_file(unit)
    with recorded.store.open(name) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        table = parquet.read(columns=[each for each in parquet.schema_arrow.names if each in schema.MANIFEST.names])
    count = table.num_rows
    given = {field: table[field] for field in table.column_names}
    given |= {
        "uri": pa.array([join(recorded.uri, name)] * count, pa.string()),
        "offset_samples": pa.array([0] * count, pa.int64()),
        "shard": pa.array([0] * count, pa.int32()),
        "member": pa.array([_AUDIO] * count, pa.string()),
        "row_group": pa.array([0] * count, pa.int32()),
        "row": pa.array(range(count), pa.int64()),
    }
    cells = [
        given[field.name].cast(field.type) if field.name in given else pa.nulls(count, field.type)
        for field in schema.MANIFEST
    ]
    return pa.table(cells, schema=schema.MANIFEST)
