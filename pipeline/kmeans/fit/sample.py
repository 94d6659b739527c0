"""Rows of smallest hash: a sample that is the same however the rows are divided among workers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class RowSample:
    """Rows of smallest hash, in the order of their hashes.

    Attributes:
        hashes: uint64 (n,).
        numbers: int64 (n,), of each row among all rows; decides between equal hashes, as those of an utterance id that
            two datasets have.
        rows: float16 (n, D).
    """

    hashes: np.ndarray
    numbers: np.ndarray
    rows: np.ndarray


def merge(samples: Sequence[RowSample], size: int) -> RowSample:
    """Join the samples of several partitions into that of all rows."""
    hashes = np.concatenate([sample.hashes for sample in samples])
    numbers = np.concatenate([sample.numbers for sample in samples])
    order = np.lexsort((numbers, hashes))[:size]
    rows = np.concatenate([sample.rows for sample in samples])
    return RowSample(hashes=hashes[order], numbers=numbers[order], rows=rows[order])
