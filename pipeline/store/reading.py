"""Reads units of finished datasets; what was damaged or belongs elsewhere is refused by name."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SchemaMismatchError
from pipeline.store.commits import Commit
from pipeline.store.dataset import Dataset, canonical, sha256


def read_committed(dataset: Dataset, unit: str) -> bytes:
    """Read the bytes of a unit's data file and compare them with its commit; see ``open_committed``."""
    with open_committed(dataset, unit) as file:
        data: bytes = file.read()
    return data


def read_rejects(dataset: Dataset, unit: str) -> pa.Table:
    """Read the rejects of a unit, their bytes checked against the commit; none where it has none.

    Raises:
        CorruptDatasetError: The file is damaged or gone.
    """
    commit, name = dataset.read_commit(unit), f"_rejects/{unit}.parquet"
    if commit is None or commit.rejects is None:
        return schema.REJECTS.empty_table()
    try:
        data = dataset.store.read(name)
    except FileNotFoundError:
        raise CorruptDatasetError(f"{dataset.uri}/{name} is gone; run the stage again") from None
    if sha256(data) != commit.rejects.sha256:
        raise CorruptDatasetError(f"{dataset.uri}/{name} is not what was committed (sha256 differs); restore it")
    return pq.read_table(pa.BufferReader(data)).cast(schema.REJECTS)


def read_unit(dataset: Dataset, unit: str) -> pa.Table:
    """Read the rows of a unit, its bytes checked against the commit and its lineage against the plan.

    Raises:
        CorruptDatasetError: The file is damaged or gone.
        SchemaMismatchError: Its lineage is not the plan's.
    """
    table = pq.read_table(pa.BufferReader(read_committed(dataset, unit)))
    _check_lineage(dataset, unit, table.schema)
    return table


def read_pieces(dataset: Dataset, unit: str) -> Iterator[pa.Table]:
    """Read the rows of a unit a row group at a time, after its bytes have been checked as ``read_unit`` checks them.

    Memory: one row group, however large the unit is.

    Raises:
        CorruptDatasetError: The file is damaged or gone.
        SchemaMismatchError: Its lineage is not the plan's.
    """
    with open_committed(dataset, unit) as file:
        parquet = pq.ParquetFile(file)
        _check_lineage(dataset, unit, parquet.schema_arrow)
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number)


@contextmanager
def open_committed(dataset: Dataset, unit: str) -> Iterator[Any]:
    """Open a unit's data file on a local disk, its bytes compared with its commit.

    Raises:
        CorruptDatasetError: The file is gone, or is not what was committed.
    """
    name = f"{dataset.uri}/{dataset.data_file(unit)}"
    commit = dataset.read_commit(unit)
    if commit is None:
        raise CorruptDatasetError(f"{name} has no commit; run the stage again")
    with _opened(dataset, commit, name) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != commit.data.sha256:
            raise CorruptDatasetError(f"{name} is not what was committed (sha256 differs); restore it or make it again")
        file.seek(0)
        yield file


def _opened(dataset: Dataset, commit: Commit, name: str) -> Any:
    """Open the file of a commit; where another driver has not shown it yet, or was killed before, its attempt's."""
    visible = dataset.data_file(commit.unit)
    # Attempts go when the dataset is finished: then the file is shown.
    for place in (visible, commit.data.attempt_file, visible):
        with contextlib.suppress(FileNotFoundError):
            return dataset.store.open_whole(place)
    raise CorruptDatasetError(f"{name} is gone; run the stage again")


def footer_sha256(file: Any) -> str:
    """Hash the footer of an open Parquet file: page checksums cover everything else."""
    end = file.seek(0, 2)
    file.seek(end - 8)
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(0, end - 8 - length))
    return sha256(file.read())


def read_row_group(dataset: Dataset, unit: str, row_group: int, footer: str) -> pa.Table:
    """Read one row group of a unit without reading the rest; see ``read_row_groups``."""
    return next(read_row_groups(dataset, unit, [row_group], footer))


def read_row_groups(
    dataset: Dataset, unit: str, row_groups: Iterable[int], footer: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read row groups of a unit, one after the other, without reading the rest; its footer is read once.

    Args:
        dataset: The dataset.
        unit: The unit.
        row_groups: Numbers of the row groups.
        footer: What ``footer_sha256`` gave when the file was written.
        columns: Columns wanted, default all.

    Raises:
        CorruptDatasetError: The file is damaged or gone.
        SchemaMismatchError: Its lineage is not the plan's.
    """
    name = f"{dataset.uri}/{dataset.data_file(unit)}"
    try:
        with dataset.store.open(dataset.data_file(unit)) as file:
            if footer_sha256(file) != footer:
                raise CorruptDatasetError(f"{name} has another footer than was committed; run verify_dataset")
            file.seek(0)
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            _check_lineage(dataset, unit, parquet.schema_arrow)
            for row_group in row_groups:
                yield parquet.read_row_group(row_group, columns=columns)
    except FileNotFoundError:
        raise CorruptDatasetError(f"{name} is gone; run the stage that makes it again") from None
    except (pa.ArrowException, OSError) as error:
        raise CorruptDatasetError(f"{name} is damaged ({error}); run verify_dataset") from error


def _check_lineage(dataset: Dataset, unit: str, columns: pa.Schema) -> None:
    lineage = (columns.metadata or {}).get(schema.LINEAGE_KEY, b"").decode(errors="replace")
    if lineage != canonical(dataset.plan.lineage):
        raise SchemaMismatchError(
            f"{dataset.uri}/{dataset.data_file(unit)} carries the lineage {lineage or 'none'}, "
            "not that of its folder's plan"
        )
