"""Rows of features as products with centroids take them, in buffers that are used again.

Shapes: n rows, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_PIECE_VALUES = 512 * 768


class Scratch:
    """Buffers by name, each as large as its largest use so far; what a call leaves in them the next one overwrites.

    Fresh memory of this size comes from the system page by page: a multiplication of 2048 x 192 floats into it took
    0.46 ms, into a buffer 0.03 ms.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Any] = {}

    def take(self, name: str, num_rows: int, num_columns: int, dtype: str) -> Any:
        """Give a buffer as a torch tensor (num_rows, num_columns), its content undefined.

        Args:
            name: Of the buffer.
            num_rows: Its rows.
            num_columns: Its columns.
            dtype: Name of a torch type, always the same for a name.
        """
        import torch

        size = num_rows * num_columns
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=getattr(torch, dtype))
        return buffer[:size].view(num_rows, num_columns)

    def chosen(self, name: str, values: Any, rows: Any) -> Any:
        """Copy some rows of a tensor (n, D) into a buffer.

        Args:
            name: Of the buffer.
            values: The tensor.
            rows: int64 tensor (m,).
        """
        import torch

        place = self.take(name, rows.numel(), values.shape[1], str(values.dtype).removeprefix("torch."))
        return torch.index_select(values, 0, rows, out=place)


def pieces(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Cut rows into pieces for passes of cheap operations, each small enough to stay in a cache of 1 MiB or 2.

    Eleven passes over 2048 x 768 values took 1.9 ms in pieces of 512 rows, 2.7 ms in one; 192 columns 0.5 ms in one,
    0.6 in pieces of 256.
    """
    size = max(1, _PIECE_VALUES // num_columns)
    for begin in range(0, num_rows, size):
        yield slice(begin, min(begin + size, num_rows))


class Rounding(Protocol):
    """What a search made of centred rows, and needs again."""

    def take(self, rows: np.ndarray, scratch: Scratch) -> Any:
        """Give it for some rows, int64 (m,)."""
        ...


@dataclass(kw_only=True, eq=False)
class Centred:
    """Rows relative to the mean of the centroids. They live in ``scratch``: until other rows are centred in it.

    Attributes:
        features: float16 (n, D), the rows as they were.
        rows: Torch tensor, float32 (n, D).
        squares: float64 (n,), their squared norms; finite if the rows are.
        errors: float64 (n,), the bound of the errors of their float32 scores.
        scratch: Where a search may work.
        rounding: What a search of this table keeps of the rows.
    """

    features: np.ndarray
    rows: Any
    squares: np.ndarray
    errors: np.ndarray
    scratch: Scratch
    rounding: Rounding | None = None

    def take(self, rows: np.ndarray) -> "Centred":
        """Give some of the rows, int64 (m,), at another place in ``scratch``; not to be called on what it gave."""
        import torch

        if len(rows) == len(self.squares):
            return self
        return Centred(
            features=self.features[rows],
            rows=self.scratch.chosen("chosen rows", self.rows, torch.from_numpy(rows)),
            squares=self.squares[rows],
            errors=self.errors[rows],
            scratch=self.scratch,
            rounding=self.rounding and self.rounding.take(rows, self.scratch),
        )
