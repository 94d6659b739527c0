"""Rows of judges, kept while they are made: an evaluation that was killed judges what is left.

They lie in ``once.KEPT`` of the evaluation's folder until its commit, which has all of them. A recogniser takes seconds
per utterance; what is decoded or spoken again for a row that is there is little beside it. Rows of another kind of
machine, whose last bits may differ, are not taken, and neither are files that cannot be read.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import faults
from pipeline.evaluation.once import KEPT
from pipeline.features.numerics import numerics_key
from pipeline.schema import LINEAGE_KEY
from pipeline.store.dataset import Dataset, canonical, parquet_bytes

if TYPE_CHECKING:
    from pipeline.metrics.speech.judge import Judge, Pair
    from pipeline.metrics.speech.rows import Row

logger = logging.getLogger(__name__)

MOST_LAG_SAMPLES = 400
"""Lag behind the original that is found and taken out before judges compare: 25 ms."""
_SECONDS = 20.0
"""Between two files of rows."""


class KeptRows:
    """Rows that were made before, and those that are made now."""

    def __init__(self, dataset: Dataset, judges: "Sequence[Judge]", device: str) -> None:
        """Read what an earlier run has kept.

        Args:
            dataset: Of the evaluation; its plan is the same as that run's, or it would have been refused.
            judges: They.
            device: That speaks, as ``cpu``.
        """
        from pipeline.metrics.speech.rows import row_schema

        self._store, self._judges, self._schema = dataset.store, judges, row_schema(judges)
        self._lineage = {"numerics": numerics_key(device)}
        self._there = {
            (row["utterance_id"], row["condition"]): row
            for name in self._store.names(KEPT)
            for row in self._read(f"{KEPT}/{name}")
        }
        if self._there:
            logger.info("%d rows of judges are there from an earlier run", len(self._there))

    def judge(self, pairs: "Iterable[Pair]") -> "Iterator[Row]":
        """Give a row of each pair, in order: the one that is there, or a new one, which is kept.

        Args:
            pairs: See ``judge_pairs``.
        """
        from pipeline.metrics.speech.judging import judge_pairs

        new, written = list["Row"](), time.monotonic()
        for pair in pairs:
            row = self._there.get((pair.utterance_id, pair.condition))
            if row is None:
                (row,) = judge_pairs([pair], self._judges, most_lag_samples=MOST_LAG_SAMPLES)
                new.append(row)
            yield row
            if new and time.monotonic() - written >= _SECONDS:
                table = pa.Table.from_pylist(new, schema=self._schema)
                self._store.write(f"{KEPT}/{uuid4().hex}.parquet", parquet_bytes(table, self._lineage))
                faults.point("after_rows_kept", pair.utterance_id)
                new, written = [], time.monotonic()

    def _read(self, name: str) -> "list[Row]":
        try:
            table = pq.read_table(pa.BufferReader(self._store.read(name)), page_checksum_verification=True)
        except (OSError, pa.ArrowInvalid) as error:
            logger.warning("%s cannot be read, and is judged again: %s", name, error)
            return []
        same = (table.schema.metadata or {}).get(LINEAGE_KEY) == canonical(self._lineage).encode()
        rows: list[Row] = table.to_pylist() if same and table.schema.names == self._schema.names else []
        return rows
