"""Checks a dataset against its commits: bytes, rows, columns, lineage, ids. Needs no Ray, changes nothing."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import CorruptDatasetError, DatasetError
from pipeline.store.commits import Commit
from pipeline.store.completion import nested, shard_table, status
from pipeline.store.dataset import FILES, SHARDS, SUCCESS, Dataset, canonical, sha256
from pipeline.store.provenance import REPORT
from pipeline.store.reading import open_committed

KEYS = {"export-parquet": "document_id"}
"""What names the rows of a kind of dataset, where that is not ``utterance_id``; several may have one name."""


REDONE = ("manifest", "features", "tokens")
"""Kinds of datasets whose jobs take ``--redo-rejects``."""


_SEVERAL_ROWS = ("features", "sequences", "scattered", "speech_evaluation", "recorded_evaluation")
"""Kinds in which an utterance has several rows: stretches, or conditions."""


@dataclass(frozen=True, kw_only=True)
class VerifyDatasetConfig:
    """Settings of verify_dataset."""

    dataset: str
    """Dataset to check, local or s3://."""
    compare: str | None = None
    """Another dataset that must hold the same bytes, as one that other workers made from the same settings."""
    num_threads: int = 2 * (os.cpu_count() or 1)
    """Files read at a time."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a check of a dataset counted.

    Attributes:
        stage: ``verify``.
        output: The dataset checked.
        kind: Its kind.
        units: Units checked.
        rows: Rows counted in data files.
        rejects: Rows counted in rejects files.
        num_frames: Frames counted.
        audio_hours: Hours of audio that the commits claim.
        reject_reasons: Rejects by reason.
        transient: Those of them that may have been a matter of the moment, where they can be made anew.
        faults: One sentence for each fault found.
        same_as: The dataset that holds the same bytes, where one was to be compared.
        took: How long this one took to make and that one, by their reports.
    """

    stage: str
    output: str
    kind: str
    units: int
    rows: int
    rejects: int
    num_frames: int
    audio_hours: float
    reject_reasons: dict[str, int]
    transient: dict[str, int]
    faults: list[str]
    same_as: str | None = None
    took: tuple[str, str] = ("", "")

    def to_json(self) -> dict[str, Any]:
        """Give the result as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the result as label and value pairs."""
        return [
            ("dataset", f"{self.output} ({self.kind})"),
            ("units", f"{self.units:,}"),
            ("rows", f"{self.rows:,} + {self.rejects:,} rejects"),
            *[(f"  {reason}", f"{count:,}") for reason, count in self.reject_reasons.items()],
            *self._redone(),
            ("frames", f"{self.num_frames:,}"),
            ("audio", f"{self.audio_hours:.3f} h"),
            *[("FAULT", fault) for fault in self.faults],
            *(self._compared() if self.same_as is not None else []),
            ("verdict", f"{len(self.faults)} faults" if self.faults else "whole and unchanged"),
        ]

    def _redone(self) -> list[tuple[str, str]]:
        if not self.transient:
            return []
        count = sum(self.transient.values())
        how = " ".join(self.transient)
        return [
            ("may be transient", f"{count:,} rejects: the job that made this tries again with --redo-rejects {how}")
        ]

    def _compared(self) -> list[tuple[str, str]]:
        return [("bytes", f"the same as in {self.same_as}"), ("took", self.took[0]), ("the other took", self.took[1])]


def verify_dataset(config: VerifyDatasetConfig) -> Verification:
    """Count and check everything a finished dataset holds.

    Raises:
        DatasetError: There is no dataset, or it is not finished; or the one to compare holds other bytes.
        CorruptDatasetError: Something is damaged; the message names every fault.
    """
    dataset = Dataset.open(config.dataset)
    result = inspect(dataset, num_threads=config.num_threads)
    for folder in nested(dataset):
        found = inspect(Dataset.open(folder), num_threads=config.num_threads)
        within = folder.removeprefix(dataset.uri).strip("/")
        result = replace(
            result,
            units=result.units + found.units,
            faults=[*result.faults, *(f"{within}/{fault}" for fault in found.faults)],
            # All of an export is in its sequences once.
            rows=result.rows + found.rows * (found.kind == "sequences"),
            num_frames=result.num_frames + found.num_frames * (found.kind == "sequences"),
            audio_hours=result.audio_hours + found.audio_hours * (found.kind == "sequences"),
        )
    if result.faults:
        raise CorruptDatasetError(
            f"{result.output} has {len(result.faults)} faults:\n  " + "\n  ".join(result.faults[:20])
        )
    if config.compare is not None:
        other = Dataset.open(config.compare)
        if differing := differences(dataset, other):
            raise DatasetError(
                f"{dataset.uri} and {other.uri} differ in {len(differing)} units:\n  " + "\n  ".join(differing[:20])
            )
        result = replace(result, same_as=other.uri, took=(_took(dataset), _took(other)))
    return result


def differences(one: Dataset, other: Dataset) -> list[str]:
    """Name the units of two finished datasets whose bytes, of data or of rejects, differ by their commits.

    Returns:
        One sentence per unit; none where every file is the same.
    """
    found = []
    ours, theirs = ({commit.unit: commit for commit in dataset.commits()} for dataset in (one, other))
    for unit in sorted(ours.keys() | theirs.keys()):
        if unit not in ours or unit not in theirs:
            found.append(f"{unit} is in {(one if unit in ours else other).uri} alone")
            continue
        files = [
            [commit.data.sha256, commit.rejects and commit.rejects.sha256, _beside(commit)]
            for commit in (ours[unit], theirs[unit])
        ]
        if files[0] != files[1]:
            found.append(f"{unit} holds other bytes")
    return found


def _took(dataset: Dataset) -> str:
    """Say how long the run took that made a dataset, by its report."""
    try:
        report = json.loads(dataset.store.read(REPORT))
        return f"{report['wall_seconds']:.1f} s with {report['workers']}"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "no report says"


def _beside(commit: Commit) -> dict[str, str]:
    return {name: record.sha256 for name, record in commit.beside.items()}


def inspect(dataset: Dataset, *, num_threads: int = 4) -> Verification:
    """Check a finished dataset and list its faults.

    Args:
        dataset: A finished dataset.
        num_threads: Files read at a time.
    """
    commits = dataset.commits()
    faults = _check_folder(dataset, commits)
    ids: Counter[str] = Counter()
    rows = rejects = frames = 0
    with ThreadPoolExecutor(num_threads) as pool:
        for found in pool.map(lambda commit: _check_unit(dataset, commit), commits):
            faults += found.faults
            ids.update(found.ids)
            rows, rejects, frames = rows + found.rows, rejects + found.rejects, frames + found.num_frames
    if dataset.plan.kind not in ("manifest", *KEYS) and dataset.plan.extension == ".parquet":
        faults += [f"utterance_id {name} occurs {count} times" for name, count in ids.items() if count > 1][:20]
    now = status(dataset)
    if now.total_rows and rows + rejects != now.total_rows and dataset.plan.kind != "manifest":
        faults.append(f"{rows} rows and {rejects} rejects, the input has {now.total_rows} rows")
    return Verification(
        stage="verify",
        output=dataset.uri,
        kind=dataset.plan.kind,
        units=len(commits),
        rows=rows,
        rejects=rejects,
        num_frames=frames,
        audio_hours=now.seconds / 3600,
        reject_reasons=dict(now.reasons),
        transient={
            reason: count
            for reason, count in now.reasons.items()
            if reason in schema.TRANSIENT and dataset.plan.kind in REDONE
        },
        faults=faults,
    )


def _check_folder(dataset: Dataset, commits: list[Commit]) -> list[str]:
    """Compare what is visible with what is committed."""
    store, faults = dataset.store, []
    beside = {name: digest for commit in commits for name, digest in commit.notes.get(FILES, {}).items()}
    beside |= {name: digest for commit in commits for name, digest in _beside(commit).items()}
    expected = {dataset.data_file(commit.unit) for commit in commits} | set(beside)
    # At the root of an export lie what its datasets share, and its card.
    ours = dataset.plan.kind == "export"
    visible = {name for name in store.names() if not name.startswith(("_", ".")) and not ours}
    faults += [f"{name} is in no commit" for name in sorted(visible - expected)]
    rejected = {f"{commit.unit}.parquet" for commit in commits if commit.rejects}
    faults += [f"_rejects/{name} is in no commit" for name in store.names("_rejects") if name not in rejected]
    for name, digest in sorted(beside.items()):
        _read(dataset, name, digest, faults)
    faults += [f"{unit} has no commit" for unit in dataset.pending()]
    try:
        with store.open(SHARDS) as file:
            if not pq.read_table(file).equals(shard_table(dataset, commits)):
                faults.append(f"{SHARDS} differs from the commits")
    except (OSError, pa.ArrowException) as error:
        faults.append(f"{SHARDS} cannot be read: {error}")
    try:
        found = json.loads(store.read(SUCCESS))
        claimed, sealed = found["dataset_sha256"], found[FILES] if ours else {}
    except (ValueError, KeyError) as error:
        return [*faults, f"{SUCCESS} is damaged: {error!r}"]
    faults += _check_sealed(dataset, sealed)
    content = [[c.unit, c.data.sha256, c.rejects.sha256 if c.rejects else None] for c in commits]
    if claimed != sha256(canonical([dataset.plan.content, content]).encode()):
        faults.append(f"{SUCCESS} names another dataset hash than plan and commits give")
    return faults


def _check_sealed(dataset: Dataset, sealed: Mapping[str, str]) -> list[str]:
    """Compare files of an export that no commit names with the hashes in its ``_SUCCESS``."""
    faults: list[str] = []
    for folder in sorted({name.partition("/")[0] for name in sealed if name.startswith("_")}):
        later = [f"{folder}/{name}" for name in dataset.store.names(folder) if f"{folder}/{name}" not in sealed]
        faults += [f"{name} is of a part that is not finished; run its export again" for name in later]
    for name, digest in sorted(sealed.items()):
        _read(dataset, name, digest, faults)
    return faults


@dataclass
class _Unit:
    rows: int
    rejects: int
    num_frames: int
    ids: Iterable[str]
    faults: list[str]


def _check_unit(dataset: Dataset, commit: Commit) -> _Unit:
    unit = _Unit(rows=0, rejects=0, num_frames=0, ids=[], faults=[])
    try:
        _check_data(dataset, commit, unit)
    except CorruptDatasetError as error:
        unit.faults.append(str(error).removeprefix(f"{dataset.uri}/"))
    except (pa.ArrowException, OSError) as error:
        unit.faults.append(f"{dataset.data_file(commit.unit)} is no Parquet file: {error}")
    if commit.rejects:
        name = f"_rejects/{commit.unit}.parquet"
        data = _read(dataset, name, commit.rejects.sha256, unit.faults)
        table = _table(name, data, unit.faults) if data is not None else None
        if table is not None:
            unit.rejects = table.num_rows
            unit.ids = [*unit.ids, *table["utterance_id"].to_pylist()]
            if table.num_rows != commit.rejects.rows:
                unit.faults.append(f"{name} has {table.num_rows} rows, its commit says {commit.rejects.rows}")
    return unit


def _check_data(dataset: Dataset, commit: Commit, unit: _Unit) -> None:
    """Check a unit's data file, a row group at a time."""
    name = dataset.data_file(commit.unit)
    with open_committed(dataset, commit.unit) as file:
        if dataset.plan.extension != ".parquet":
            unit.rows = commit.data.rows
            return
        parquet = pq.ParquetFile(file)
        lineage = (parquet.schema_arrow.metadata or {}).get(schema.LINEAGE_KEY, b"").decode()
        if lineage != canonical(dataset.plan.lineage):
            unit.faults.append(f"{name} carries another lineage than its folder's plan")
        ids: list[str] = []
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number)
            ids += table[KEYS.get(dataset.plan.kind, "utterance_id")].to_pylist()
            _check_table(dataset, name, table, unit)
    # Features or ids of one utterance may lie in several rows, and these in several row groups.
    unit.ids = list(dict.fromkeys(ids)) if dataset.plan.kind in _SEVERAL_ROWS else ids
    unit.rows = len(unit.ids)
    if unit.rows != commit.data.rows:
        unit.faults.append(f"{name} has {unit.rows} rows, its commit says {commit.data.rows}")
    if "num_frames" in parquet.schema_arrow.names and unit.num_frames != commit.num_frames:
        unit.faults.append(f"{name} has {unit.num_frames} frames, its commit says {commit.num_frames}")


def _check_table(dataset: Dataset, name: str, table: pa.Table, unit: _Unit) -> None:
    """Check the cells of one row group and count its frames."""
    if "num_frames" not in table.column_names:
        return
    counts = table["num_frames"].to_pylist()
    unit.num_frames += sum(counts)
    for column in (column for column in table.column_names if column.startswith("layer_")):
        scale = 2 * dataset.plan.lineage["dim"] if dataset.plan.kind == "features" else 1
        lengths = pa.compute.list_value_length if scale == 1 else pa.compute.binary_length
        if lengths(table[column]).to_pylist() != [scale * count for count in counts]:
            unit.faults.append(f"{name}: cells of {column} are not num_frames long")
        if scale == 1:
            top = pa.compute.max(pa.compute.list_flatten(table[column])).as_py()
            if top is not None and top >= dataset.plan.lineage["num_clusters"][column]:
                unit.faults.append(f"{name}: {column} holds token {top}, its codebook is smaller")


def _table(name: str, data: bytes, faults: list[str]) -> pa.Table | None:
    """Parse a file, unless its bytes are already known to be damaged."""
    if any(fault.startswith(f"{name} is not what") for fault in faults):
        return None
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        faults.append(f"{name} is no Parquet file: {error}")
        return None


def _read(dataset: Dataset, name: str, digest: str, faults: list[str]) -> bytes | None:
    try:
        data = dataset.store.read(name)
    except FileNotFoundError:
        faults.append(f"{name} is gone")
        return None
    if sha256(data) != digest:
        faults.append(f"{name} is not what was committed (sha256 differs)")
    return data
