"""Writes the files of a manifest from what was probed: no duplicates, shards, an index of where each of them lies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.corpus_settings import CorpusSettings
from pipeline.audio.filter_settings import FilterSettings
from pipeline.audio.filtering import kept_rows
from pipeline.audio.loading import INDEX, RECORDINGS
from pipeline.audio.manifest import duplicate_rows, plan_shards, shard_minutes
from pipeline.errors import DatasetError, ManifestError
from pipeline.passed_over import NOTE, PassedOver
from pipeline.schema import Reason
from pipeline.store.completion import status
from pipeline.store.dataset import Dataset, Output, canonical, parquet_bytes, sha256
from pipeline.store.reading import footer_sha256, read_rejects, read_unit
from pipeline.work.units import Reject, rejects_table

CANDIDATES_PER_FILE = 500_000


def probed_rows(scratch: Dataset) -> pa.Table:
    """Read the rows of all pieces."""
    found = [read_unit(scratch, unit) for unit in scratch.plan.units]
    return pa.concat_tables(found) if found else schema.MANIFEST.empty_table()


def probed_rejects(scratch: Dataset) -> list[pa.Table]:
    """Read the rejects of all pieces."""
    found = [read_rejects(scratch, commit.unit) for commit in scratch.commits() if commit.rejects is not None]
    return found or [schema.REJECTS.empty_table()]


def write_manifest(
    dataset: Dataset,
    probed: pa.Table,
    rejected: Sequence[pa.Table],
    recordings: CorpusSettings,
    notes: dict[str, Any],
    filters: FilterSettings,
) -> None:
    """Drop duplicates of what was probed, then what is not asked for; plan the shards and commit the manifest's files.

    Args:
        dataset: The manifest.
        probed: Rows, in the order of their candidates.
        rejected: Rejects.
        recordings: What the corpus is.
        notes: See ``manifest_notes``.
        filters: Which utterances are kept.

    Raises:
        ManifestError: Two recordings share an id, and ``strict`` is set; or no utterance is kept.
        SettingsError: A condition on utterances cannot be evaluated.
        DatasetError: Another run has committed other rows.
    """
    first = duplicate_rows(probed["utterance_id"])
    later = np.flatnonzero(first >= 0)
    if len(later) and recordings.strict:
        raise ManifestError(_duplicate(probed, int(later[0]), int(first[later[0]])))
    duplicates = rejects_table(
        [
            Reject(
                utterance_id=probed["utterance_id"][int(row)].as_py(),
                uri=probed["uri"][int(row)].as_py(),
                stage="manifest",
                reason=Reason.DUPLICATE_ID,
                detail=_duplicate(probed, int(row), int(first[row])),
            )
            for row in later
        ]
    )
    rejects = pa.concat_tables([*rejected, duplicates])
    rows, left_out = kept_rows(probed.filter(pa.array(first < 0)).cast(schema.MANIFEST), filters, recordings.corpus)
    every = PassedOver.sum([PassedOver.of(notes.get(NOTE, {})), left_out])
    commit_rows(dataset, rows, rejects, recordings.shard_minutes, notes | every.note())


def commit_rows(
    dataset: Dataset, rows: pa.Table, rejects: pa.Table, minutes: float | None, notes: dict[str, Any]
) -> None:
    """Plan the shards of rows and commit the manifest's files.

    Args:
        dataset: The manifest.
        rows: Its rows, with the columns that its files are to have; ``shard`` is filled in.
        rejects: Its rejects.
        minutes: Audio in a shard, minutes; None chooses by the length of the corpus.
        notes: What the first commit is to say.

    Raises:
        DatasetError: Another run has committed other rows.
    """
    seconds = rows["num_samples"].to_numpy() / np.maximum(rows["sample_rate"].to_numpy(), 1)
    shards = plan_shards(seconds, minutes or shard_minutes(float(seconds.sum())))
    place = rows.schema.get_field_index("shard")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(shards, pa.int32()))
    _commit_files(dataset, rows, seconds, rejects, notes)


def manifest_notes(
    listed: PassedOver, scratch: Dataset, recordings: CorpusSettings, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give what the commit says of the manifest: what was passed over, and how many utterances are whole files.

    The latter is left out where a piece was probed before that was counted.

    Args:
        listed: What listing passed over.
        scratch: What was probed.
        recordings: What the corpus is.
        before: What the manifest said before its rejects were made anew.

    Raises:
        ManifestError: Something was passed over, and ``strict`` is set.
    """
    probed = PassedOver.of(status(scratch).passed_over)
    if recordings.strict:
        probed.refuse(recordings.corpus)
    both = PassedOver()
    both.merge(listed if before is None else PassedOver.of(before.get(NOTE, {})))
    both.merge(probed)
    counts = [commit.notes.get(RECORDINGS) for commit in scratch.commits()]
    counts += [] if before is None else [before.get(RECORDINGS)]
    if None in counts:
        return both.note()
    total = {name: sum(count[name] for count in counts if count is not None) for name in ("whole", "parts")}
    return both.note() | {RECORDINGS: total}


def _commit_files(
    dataset: Dataset, rows: pa.Table, seconds: np.ndarray, rejects: pa.Table, notes: dict[str, Any]
) -> None:
    shards = rows["shard"].to_numpy()
    starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]]) if len(shards) else np.zeros(0, int)
    ends = np.r_[starts[1:], len(shards)]
    last = len(dataset.plan.units) - 1
    index: list[dict[str, object]] = []
    for number, unit in enumerate(dataset.plan.units):
        in_file = np.flatnonzero(np.minimum(starts // CANDIDATES_PER_FILE, last) == number)
        sink = pa.BufferOutputStream()
        places: list[dict[str, object]] = []
        columns = schema.with_lineage(rows.schema, canonical(dataset.plan.lineage))
        with pq.ParquetWriter(sink, columns, compression="zstd", write_page_checksum=True) as writer:
            for group, shard in enumerate(in_file):
                begin, end = int(starts[shard]), int(ends[shard])
                writer.write_table(rows.slice(begin, end - begin).replace_schema_metadata(columns.metadata))
                places.append(
                    {
                        "shard": int(shards[begin]),
                        "file": dataset.data_file(unit),
                        "row_group": group,
                        "num_rows": end - begin,
                        "seconds": float(seconds[begin:end].sum()),
                    }
                )
        held = slice(int(starts[in_file[0]]), int(ends[in_file[-1]])) if len(in_file) else slice(0, 0)
        data = sink.getvalue()
        footer = footer_sha256(pa.BufferReader(data))
        index += [{**place, "footer_sha256": footer} for place in places]
        out = rejects if number == 0 else rejects.slice(0, 0)
        output = Output(
            data=memoryview(data),
            rows=held.stop - held.start,
            rejects=out,
            seconds=float(seconds[held].sum()),
            notes={"reasons": dict(Counter(out["reason"].to_pylist()))} | (notes if number == 0 else {}),
        )
        commit = dataset.read_commit(unit) or dataset.commit(unit, dataset.announce(unit), output, {})
        if commit.data.sha256 != sha256(data):
            raise DatasetError(
                f"{dataset.uri}/{dataset.data_file(unit)} was committed by another run that read other headers; run "
                "the same command again, and if it says the same, use a new folder"
            )
    dataset.store.write(INDEX, parquet_bytes(pa.Table.from_pylist(index, schema=schema.MANIFEST_INDEX), {}))


def _duplicate(rows: pa.Table, later: int, first: int) -> str:
    return (
        f"utterance_id {rows['utterance_id'][later].as_py()} of {rows['uri'][later].as_py()} "
        f"is taken by {rows['uri'][first].as_py()}"
    )
