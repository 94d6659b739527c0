"""Which documents make which shard: of their ids and lengths alone, so the same rows give the same shards.

Arrays in, arrays out.

Memory: 132 bytes a row in the driver while the shards are planned (measured, ``bench/export_scale.py``).
Shapes: R rows (stretches of utterances), N documents, S shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.export.grouping import TRAIN, VALID, key_of

TOLERANCE = 0.05
"""How much larger or smaller than their mean shards may be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What planning needs of all rows, in source order.

    Attributes:
        unit: int32 (R,), number of the unit in which a row lies.
        row: int32 (R,), its place there.
        document: uint64 (R,), hash of its document.
        num_ids: int64 (R,).
        framing: int64 (R,), ids that its document would begin and end with if it were the first row.
        offset: float64 (R,), where in its recording it begins, seconds.
        valid: bool (R,), side of the split.
    """

    unit: np.ndarray
    row: np.ndarray
    document: np.ndarray
    num_ids: np.ndarray
    framing: np.ndarray
    offset: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardRows:
    """The rows of one shard, in the order of its ids.

    Attributes:
        name: As ``train-00000``.
        rows: int64 (R,), places in ``Rows``.
        document: int32 (R,), number of each row's document in the shard, rising from 0.
        num_ids: Ids of the shard, with those that begin and end documents.
    """

    name: str
    rows: np.ndarray
    document: np.ndarray
    num_ids: int

    @property
    def num_documents(self) -> int:
        """Documents of the shard."""
        return int(self.document[-1]) + 1 if len(self.document) else 0


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """How documents are put into shards.

    Attributes:
        shard_ids: Ids of a shard, about.
        max_document_ids: A longer document becomes several; 0 is no limit.
        order: ``source``, or ``shuffled`` by a hash of seed and document.
        seed: Of the order.
        by_offset: Whether the rows of a document follow their place in the recording.
    """

    shard_ids: int
    max_document_ids: int = 0
    order: Literal["source", "shuffled"] = "source"
    seed: int = 0
    by_offset: bool = False


def plan_shards(rows: Rows, settings: ShardSettings) -> list[ShardRows]:
    """Put all rows into shards of nearly equal size, documents whole; the validation side has shards of its own."""
    if not len(rows):
        return []
    order, rank = _ordered(rows, settings)
    number = _pieces(rank, rows.num_ids[order], rows.framing[order], settings.max_document_ids)
    first = np.flatnonzero(np.r_[True, np.diff(number) != 0])
    lengths = np.add.reduceat(rows.num_ids[order], first) + rows.framing[order][first]
    # A document whose rows disagree, as one of several speakers, goes where its first row goes.
    valid = _first_of(rank, rows.valid[order])[first]
    shards = []
    for name, side in ((TRAIN, ~valid), (VALID, valid)):
        taken = side[number]
        places, documents = order[taken], (np.cumsum(side) - 1)[number[taken]]
        for count, (start, end) in enumerate(_cuts(lengths[side], settings.shard_ids)):
            begin, stop = np.searchsorted(documents, (start, end))
            shards.append(
                ShardRows(
                    name=f"{name}-{count:05d}",
                    rows=places[begin:stop],
                    document=(documents[begin:stop] - start).astype(np.int32),
                    num_ids=int(lengths[side][start:end].sum()),
                )
            )
    return shards


def _ordered(rows: Rows, settings: ShardSettings) -> tuple[np.ndarray, np.ndarray]:
    """Give the places of rows in the order of documents, and the rank of each one's document, rising."""
    documents, first, inverse = np.unique(rows.document, return_index=True, return_inverse=True)
    keys = first if settings.order == "source" else _mixed(documents, settings.seed)
    rank = np.empty(len(documents), np.int64)
    rank[np.lexsort((documents, keys))] = np.arange(len(documents))
    within = rows.offset if settings.by_offset else np.zeros(len(rows))
    order = np.lexsort((np.arange(len(rows)), within, rank[inverse]))
    return order, rank[inverse][order]


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """Mix 64-bit keys with a seed, each key to another one.

    Source: SplitMix64, G. Steele et al. 2014, "Fast splittable pseudorandom number generators".
    """
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(key_of(str(seed), "shuffle"))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return found


def _first_of(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give each row the value of its group's first row; groups are consecutive."""
    starts = np.flatnonzero(np.r_[True, np.diff(groups) != 0])
    return np.repeat(values[starts], np.diff(np.r_[starts, len(groups)]))


def _pieces(rank: np.ndarray, num_ids: np.ndarray, framing: np.ndarray, limit: int) -> np.ndarray:
    """Number documents, cut before each row that would take one past the limit; a row is never cut.

    Args:
        rank: Document of each row, rising.
        num_ids: Ids of each row.
        framing: Ids that begin and end a document with this first row.
        limit: Most ids of a document, 0 for none.

    Returns:
        int64 (R,), rising.
    """
    begins = np.r_[True, np.diff(rank) != 0]
    if limit:
        starts = np.flatnonzero(begins)
        ends = np.r_[starts[1:], len(rank)]
        totals = np.add.reduceat(num_ids, starts) + framing[starts]
        for start, end in zip(starts[totals > limit], ends[totals > limit], strict=True):
            held = framing[start]
            for place in range(start, end):
                if place > start and held + num_ids[place] > limit:
                    begins[place], held = True, framing[place]
                held += num_ids[place]
    return np.cumsum(begins) - 1


def _cuts(lengths: np.ndarray, shard_ids: int) -> list[tuple[int, int]]:
    """Cut documents into consecutive shards of nearly equal length.

    Each cut is at the document's end that lies nearest to its ideal place, so a shard is off the mean by one document
    at most; where that would pass ``TOLERANCE``, there are fewer and larger shards.
    """
    if not len(lengths):
        return []
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    count = max(1, min(round(total / shard_ids), int(TOLERANCE * total / max(1, int(lengths.max())))))
    ideal = np.arange(1, count) * (total / count)
    after = np.searchsorted(ends, ideal)
    before_is_nearer = ideal - np.where(after > 0, ends[after - 1], 0) < ends[after] - ideal
    places = [0, *(after + ~before_is_nearer).tolist(), len(lengths)]
    return list(zip(places, places[1:], strict=False))


def imbalance(shards: Sequence[ShardRows], side: str) -> float:
    """Give how far the largest or smallest shard of a side is from their mean, as a share of it; 0 for one shard."""
    sizes = np.array([shard.num_ids for shard in shards if shard.name.startswith(side)], dtype=np.float64)
    return float(np.abs(sizes / sizes.mean() - 1).max()) if len(sizes) and sizes.mean() else 0.0
