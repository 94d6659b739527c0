"""Rows of several lengths as one array, with their lengths and a mask: what a network with padding needs.

What lies past the end of a row is the fill alone, whatever the rows hold. A network must use the mask or the lengths
wherever frames meet: in attention, convolutions, recurrences, pooling, norms over time, and losses.

Letters: B batch, T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded:
    """Rows of one micro-batch.

    Attributes:
        values: (B, T, ...), the fill past the end of each row.
        lengths: int64 (B,), frames of each row.
    """

    values: np.ndarray
    lengths: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Bool (B, T): True in a row's own frames, False in padding."""
        mask: np.ndarray = np.arange(self.values.shape[1]) < self.lengths[:, None]
        return mask

    def tensors(self, name: str) -> Tensors:
        """Give ``NAME``, ``NAME_lengths`` int64 (B,) and ``NAME_mask`` bool (B, T); uint16 values become int64."""
        values = self.values.astype(np.int64) if self.values.dtype == np.uint16 else self.values
        return {
            name: torch.from_numpy(values),
            f"{name}_lengths": torch.from_numpy(self.lengths),
            f"{name}_mask": torch.from_numpy(self.mask),
        }


def pad_rows(rows: Sequence[np.ndarray], *, fill: float = 0, num_frames: int | None = None) -> Padded:
    """Lay rows side by side.

    Args:
        rows: (T_b, ...) each, at least one, alike in everything but their lengths.
        fill: What lies past the end of a row.
        num_frames: Frames of the array (T); by default those of the longest row.

    Raises:
        ValueError: Rows differ in more than their lengths, or one is longer than ``num_frames``.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    kinds = {(row.dtype, row.shape[1:]) for row in rows}
    longest = int(lengths.max()) if num_frames is None else num_frames
    if len(kinds) != 1 or lengths.max() > longest:
        raise ValueError(f"rows of {kinds} and {lengths.tolist()} frames do not fit into one array of {longest}")
    (dtype, shape), *_ = kinds
    values = np.full((len(rows), longest, *shape), fill, dtype)
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
    return Padded(values=values, lengths=lengths)
