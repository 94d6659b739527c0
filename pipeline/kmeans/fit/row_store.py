"""Rows of features that may be more than memory: the first in memory, the rest in a file on the local disk.

Reading a file of bare float16 again in every iteration costs a fraction of reading Parquet or S3 again, and needs no
more memory than a block. The file has no name, so the kernel frees it when its process ends, however that comes.
"""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np


class RowStore:
    """Takes rows once, in order, and gives them back in blocks.

    Attributes:
        num_rows: Rows taken so far.

    Args:
        dim: D.
        max_resident: Rows kept in memory at most.
        num_rows: Rows that may come, so that memory is taken once; more are refused.
    """

    def __init__(self, dim: int, *, num_rows: int, max_resident: int) -> None:
        self.num_rows = 0
        self._capacity = num_rows
        # Pages that no row comes to are never taken.
        self._resident = np.empty((min(num_rows, max(0, max_resident)), dim), np.float16)
        self._file: Any = None

    @property
    def num_resident(self) -> int:
        """Rows of them in memory."""
        return min(self.num_rows, len(self._resident))

    @property
    def dim(self) -> int:
        """Width of the rows (D)."""
        return int(self._resident.shape[1])

    def append(self, rows: np.ndarray) -> None:
        """Take float16 (n, D) rows.

        Raises:
            ValueError: They are of another type or width, or more than were announced.
        """
        if rows.dtype != np.float16 or rows.shape[1:] != (self.dim,) or self.num_rows + len(rows) > self._capacity:
            raise ValueError(
                f"rows must be float16 (n, {self.dim}), {self._capacity - self.num_rows} more at most, "
                f"got {rows.dtype} {rows.shape}"
            )
        fitting = min(len(rows), len(self._resident) - self.num_resident)
        self._resident[self.num_rows : self.num_rows + fitting] = rows[:fitting]
        if fitting < len(rows):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the store
            self._file.seek(0, os.SEEK_END)
            self._file.write(np.ascontiguousarray(rows[fitting:]).data)
        self.num_rows += len(rows)

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Give all rows in order, at most ``size`` at a time, each block with the number of its first row.

        A block is read when it is asked for, and must not be changed.
        """
        for begin in range(0, self.num_resident, size):
            yield begin, self._resident[begin : min(begin + size, self.num_resident)]
        for begin in range(self.num_resident, self.num_rows, size):
            yield begin, self._read(begin, min(size, self.num_rows - begin))

    def arrays(self) -> list[np.ndarray]:
        """Give all rows as arrays that follow one another; the one on disk is mapped, not read."""
        if self._file is None:
            return [self._resident[: self.num_rows]]
        self._file.flush()
        shape = (self.num_rows - self.num_resident, self.dim)
        return [self._resident, np.memmap(self._file, np.float16, "r", shape=shape)]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Give some rows, float16 (n, D).

        Args:
            numbers: Integers (n,), in any order.
        """
        found = np.empty((len(numbers), self.dim), np.float16)
        inside = numbers < self.num_resident
        found[inside] = self._resident[numbers[inside]]
        for place in np.flatnonzero(~inside):
            found[place] = self._read(int(numbers[place]), 1)[0]
        return found

    def _read(self, begin: int, count: int) -> np.ndarray:
        rows = np.empty((count, self.dim), np.float16)
        self._file.seek((begin - self.num_resident) * rows[:1].nbytes)
        # A buffered file reads until the buffer is full or the file ends.
        if self._file.readinto(rows.data.cast("B")) != rows.nbytes:
            raise OSError(f"the file of {self.num_rows - self.num_resident} rows on the local disk ends too early")
        return rows
