"""Reads units of finished datasets; what was damaged or belongs elsewhere is refused by name."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.dataset import Dataset, canonical
from pipeline.errors import CorruptDatasetError, SchemaMismatchError


def open_unit(dataset: Dataset, unit: str, file: Any) -> pq.ParquetFile:
    """Open a unit's Parquet file, page checksums on, and check its lineage against the plan.

    Args:
        dataset: The dataset.
        unit: The unit.
        file: Its open file, as ``dataset.store.open`` gives.

    Raises:
        CorruptDatasetError: It is no Parquet file.
        SchemaMismatchError: Its lineage is not the plan's.
    """
    name = f"{dataset.uri}/{dataset.data_file(unit)}"
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDatasetError(f"{name} cannot be read ({error}); run verify_dataset, then the stage") from error
    lineage = (parquet.schema_arrow.metadata or {}).get(schema.LINEAGE_KEY, b"").decode(errors="replace")
    if lineage != canonical(dataset.plan.lineage):
        raise SchemaMismatchError(f"{name} carries the lineage {lineage or 'none'}, not that of its folder's plan")
    return parquet


def read_unit(
    dataset: Dataset, unit: str, *, row_group: int | None = None, columns: list[str] | None = None
) -> pa.Table:
    """Read the rows of a unit.

    Args:
        dataset: The dataset.
        unit: The unit.
        row_group: Read just this row group.
        columns: Read just these columns.

    Raises:
        CorruptDatasetError: The file is damaged or gone.
        SchemaMismatchError: Its lineage is not the plan's.
    """
    name = f"{dataset.uri}/{dataset.data_file(unit)}"
    try:
        with dataset.store.open(dataset.data_file(unit)) as file:
            parquet = open_unit(dataset, unit, file)
            if row_group is None:
                return parquet.read(columns=columns)
            return parquet.read_row_group(row_group, columns=columns)
    except FileNotFoundError:
        raise CorruptDatasetError(f"{name} is gone; run the stage that makes it again") from None
    except (pa.ArrowException, OSError) as error:
        raise CorruptDatasetError(f"{name} is damaged ({error}); run verify_dataset") from error
