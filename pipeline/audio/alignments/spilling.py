"""Sort more rows than memory holds: they go to files on disk by ranges of utterances, and each file is sorted alone.

Memory: ``_HELD`` rows, then one range. Disk: all rows, about 40 bytes each, in a temporary folder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema

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
    """Takes rows in any order and gives them by utterance, then start."""

    def __init__(self, folder: str, ids: pa.Array) -> None:
        """Begin.

        Args:
            folder: A folder for files of its own.
            ids: Utterance ids by rank, sorted.
        """
        self._folder, self._ids = Path(folder), ids
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
            table = table.sort_by([(name, "ascending") for name in ("rank", "start_seconds", "end_seconds", "label")])
            ids = pc.take(self._ids, table["rank"])
            yield table.set_column(0, schema.ALIGNMENT.field("utterance_id"), ids).cast(schema.ALIGNMENT)

    def _path(self, number: int) -> str:
        return str(self._folder / f"{number:05d}.arrows")
