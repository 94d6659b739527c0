"""A manifest of spoken tokens, so that every other job reads them: their ids and labels stay as they are."""

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


def write_speech_manifest(speech: Dataset) -> Dataset:
    """Write the manifest of finished speech into its folder; one that is there stays.

    Args:
        speech: The speech; only its small columns are read.

    Returns:
        The manifest, SPEECH/_manifest.
    """
    digest = success(speech)["dataset_sha256"]
    numbers = range(max(1, -(-sum(commit.data.rows for commit in speech.commits()) // CANDIDATES_PER_FILE)))
    plan = Plan(
        kind="manifest",
        content={"speech_sha256": digest, "uri": speech.uri},
        lineage={
            "kind": "manifest",
            "schema_version": schema.SCHEMA_VERSION,
            "roots": [speech.uri],
            "layout": "parquet",
            "speech_sha256": digest,
        },
        units=[f"manifest-{number:05d}" for number in numbers],
        totals={"rows": sum(commit.data.rows for commit in speech.commits())},
    )
    manifest = Dataset.create(join(speech.uri, MANIFEST), plan)
    if manifest.finished():
        return manifest
    rows = pa.concat_tables([schema.MANIFEST.empty_table(), *(_rows(speech, unit) for unit in speech.plan.units)])
    with unless_finished(manifest):
        notes = {RECORDINGS: {"whole": rows.num_rows, "parts": 0}}
        commit_rows(manifest, rows, schema.REJECTS.empty_table(), None, notes)
    finish(manifest, extra={"index_sha256": sha256(manifest.store.read(INDEX))})
    return manifest


def _rows(speech: Dataset, unit: str) -> pa.Table:
    """Say where the recordings of a shard lie, as the layout parquet does."""
    name = speech.data_file(unit)
    with speech.store.open(name) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        table = parquet.read(columns=[field for field in schema.SPEECH.names if field != _AUDIO])
    count = table.num_rows
    given = {field: table[field] for field in table.column_names}
    given |= {
        "uri": pa.array([join(speech.uri, name)] * count, pa.string()),
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
