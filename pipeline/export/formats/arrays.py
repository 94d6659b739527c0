"""What every format is given: one shard's documents as flat arrays.

Shapes: N documents, I ids.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary

META = schema.STRETCHES


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents:
    """The documents of one shard.

    Attributes:
        ids: In the vocabulary's dtype, (I,): all documents one after the other, each with its begin and end.
        ends: int64 (N,), where each document ends in ``ids``.
        meta: Rows of ``META``, sorted by ``document`` and ``start``.
        loss_mask: bool (I,), False where no loss is to be taken; None where all ids count.
    """

    ids: np.ndarray
    ends: np.ndarray
    meta: pa.Table
    loss_mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 (N,), where each document begins in ``ids``."""
        starts: np.ndarray = np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])[: len(self.ends)]
        return starts

    @cached_property
    def first_rows(self) -> np.ndarray:
        """int64 (N + 1,), where each document's rows of ``meta`` begin, and their number."""
        numbers = self.meta["document"].to_numpy()
        rows: np.ndarray = np.searchsorted(numbers, np.arange(len(self) + 1))
        return rows


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """What a format may need to know of all shards.

    Attributes:
        vocabulary: The ids.
        pattern: How frames became ids.
        frame_rate: Frames a second.
        lineage: Where the tokens come from, for headers.
        whole_files: Whether each document is all of one file, so that its path alone finds its audio.
    """

    vocabulary: Vocabulary
    pattern: Pattern
    frame_rate: float
    lineage: Mapping[str, object]
    whole_files: bool = True


Bytes = bytes | memoryview


class Writer(Protocol):
    """One format: a module of this folder."""

    EXTENSION: str
    """Ending of the data file, as ``.bin``."""

    def check(self, spelling: Spelling, *, masked: bool) -> None:
        """Refuse what the format cannot hold; ``masked``: whether there is a loss mask.

        Raises:
            SettingsError: Says which other setting or format would do.
        """

    def write(self, documents: Documents, spelling: Spelling) -> dict[str, Bytes]:
        """Lay a shard out: contents by ending, ``EXTENSION`` first; the same documents give the same bytes."""


Read = Callable[[str, str], Iterator[np.ndarray]]
"""Given a folder and the name of a shard without its ending: the ids of each document, in order."""
