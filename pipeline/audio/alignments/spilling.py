"""Sort more rows than memory holds: they go to files on disk by ranges of utterances, and each file is sorted alone.

Where rows are lines of a table, one that is there twice is given once.

Memory: ``_HELD`` rows, then one range. Disk: all rows, about 40 bytes each, in a temporary folder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.passed_over import Kind, PassedOver

_HELD = 200_000
_MOST_FILES = 200
_FEWEST_UTTERANCES = 10_000
_ROWS = pa.schema(
    [
        pa.field("rank", pa.int64()),
        *(schema.ALIGNMENT.field(name) for name in ("start_seconds", "end_seconds", "label")),
    ]
)


class Sorter:
    """Takes rows in any order and gives them by utterance, then start.

    Attributes:
        num_rows: How many were taken, and not left out again.
    """

    def __init__(self, folder: str, ids: pa.Array, passed_over: PassedOver, *, once: bool = False) -> None:
        """Begin.

        Args:
            folder: A folder for files of its own.
            ids: Utterance ids by rank, sorted.
            passed_over: Counts rows that are left out.
            once: Whether to leave out a row that is the same as another.
        """
        self._folder, self._ids, self._passed_over, self._once = Path(folder), ids, passed_over, once
        self._width = max(_FEWEST_UTTERANCES, -(-len(ids) // _MOST_FILES))
        self._held: list[pa.RecordBatch] = []
        self._spilt = 0
        self._files: dict[int, pa.RecordBatchStreamWriter] = {}
        self.num_rows = 0

    def add(self, ranks: np.ndarray, starts: np.ndarray, ends: np.ndarray, labels: Sequence[str]) -> None:
        """Take some rows; each argument has a value for each of them."""
        self._held.append(pa.record_batch([ranks, starts, ends, pa.array(labels, pa.string())], schema=_ROWS))
        self.num_rows += len(ranks)
        if self.num_rows - self._spilt >= _HELD:
            self._spill()

    def _spill(self) -> None:
        table = pa.Table.from_batches(self._held, _ROWS)
        self._held, self._spilt = [], self.num_rows
        numbers = table["rank"].to_numpy() // self._width
        for number in np.unique(numbers).tolist():
            if number not in self._files:
                self._files[number] = pa.ipc.new_stream(self._path(number), _ROWS)
            self._files[number].write_table(table.filter(pa.array(numbers == number)))

    def tables(self) -> Iterator[pa.Table]:
        """Give all rows as tables of ``schema.ALIGNMENT``; nothing can be added after."""
        self._spill()
        for file in self._files.values():
            file.close()
        for number in sorted(self._files):
            with pa.ipc.open_stream(self._path(number)) as file:
                table = file.read_all()
            table = table.sort_by([(name, "ascending") for name in _ROWS.names]).combine_chunks()
            if self._once:
                table = self._without_twins(table)
            ids = pc.take(self._ids, table["rank"])
            yield table.set_column(0, schema.ALIGNMENT.field("utterance_id"), ids).cast(schema.ALIGNMENT)

    def _without_twins(self, table: pa.Table) -> pa.Table:
        same = np.ones(max(0, table.num_rows - 1), bool)
        for column in table.columns:
            same &= pc.equal(column.slice(1), column.slice(0, len(same))).to_numpy()
        twins = np.flatnonzero(same) + 1
        if len(twins):
            first = table.slice(int(twins[0]), 1).to_pylist()[0]
            example = f"{self._ids[first['rank']].as_py()} at {first['start_seconds']:g} s: {first['label']}"
            self._passed_over.add(Kind.UNREAD_LINES, len(twins), example=example, name="twice")
            self.num_rows -= len(twins)
        return table.filter(pa.array(~np.isin(np.arange(table.num_rows), twins)))

    def _path(self, number: int) -> str:
        return str(self._folder / f"{number:05d}.arrows")
