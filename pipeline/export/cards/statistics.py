"""What the rows of a sequences dataset hold, as integers: counts of any parts add up to the same, in any order.

A unit's counts are made when the unit is, and everything that a card says of all of them is computed from their sum
(``card.py``). An hour of five layers with K = 1000 takes 11 ms to count, 49 kB as JSON, and 4 ms to read and add.
Memory of a sum: 220 bytes a speaker, 8 a number of the vocabulary.
Shapes: R rows, I ids, B bins of lengths.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import CorruptDatasetError
from pipeline.export.grouping import TRAIN, VALID
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary

STATISTICS_VERSION = 1
"""Goes up when a number changes its meaning; such statistics are counted again."""

GROUPS = ("speaker", "language", "corpus")
"""What audio and ids are divided by; None stands for unknown."""

MICROSECONDS = 1_000_000
LENGTH_EDGES = np.rint(2.0 ** (np.arange(-16, 57) / 4) * MICROSECONDS).astype(np.int64)
"""Edges of the bins of lengths in microseconds, four an octave from 1/16 s to 4.5 hours. The first bin is below the
first edge, the last above the last; a length on an edge is in the bin above it."""

_TOTALS = ("utterances", "rows", "microseconds", "frames", "kept_frames", "ids_before_bpe", "ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What was counted of some rows. Ids are those of utterances: those that begin and end documents come on top.

    Attributes:
        utterances: Different utterance ids.
        rows: Rows; an utterance that passes the maximum length has several.
        microseconds: Audio, each row rounded.
        frames: Frames of the tokens.
        kept_frames: Frames that deduplication left.
        ids_before_bpe: Ids that there would be without unit BPE.
        ids: Ids as exported.
        lengths: int64 (B,), utterances by the bin of their length; see ``LENGTH_EDGES``.
        uses: int64, how often each id occurs, up to the highest that does.
        groups: By name of ``GROUPS`` and then by value: microseconds of audio and ids.
    """

    utterances: int
    rows: int
    microseconds: int
    frames: int
    kept_frames: int
    ids_before_bpe: int
    ids: int
    lengths: np.ndarray
    uses: np.ndarray
    groups: Mapping[str, Mapping[str | None, tuple[int, int]]]

    def to_json(self) -> dict[str, Any]:
        """Write the counts: only bins, ids and values that occur, ids as the distance from the one before."""
        bins, ids = np.flatnonzero(self.lengths), np.flatnonzero(self.uses)
        return {
            **{name: getattr(self, name) for name in _TOTALS},
            "lengths": [bins.tolist(), self.lengths[bins].tolist()],
            "uses": [np.diff(ids, prepend=0).tolist(), self.uses[ids].tolist()],
            "groups": {group: _to_columns(self.groups[group]) for group in GROUPS},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Counts":
        """Read what ``to_json`` gave."""
        bins, utterances = found["lengths"]
        lengths = np.zeros(len(LENGTH_EDGES) + 1, np.int64)
        lengths[bins] = utterances
        steps, times = found["uses"]
        ids = np.cumsum(np.array(steps, np.int64))
        uses = np.zeros(int(ids[-1]) + 1 if len(ids) else 0, np.int64)
        uses[ids] = times
        groups = {}
        for group in GROUPS:
            values, microseconds, amounts = found["groups"][group]
            groups[group] = dict(zip(values, zip(microseconds, amounts, strict=True), strict=True))
        return cls(**{name: found[name] for name in _TOTALS}, lengths=lengths, uses=uses, groups=groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Counts of both sides of the split. An utterance is on the side on which its first row is.

    Attributes:
        train: Of the training side.
        valid: Of the validation side.
    """

    train: Counts
    valid: Counts

    @classmethod
    def of(cls, table: pa.Table, vocabulary: Vocabulary, pattern: Pattern, corpus: str) -> "Statistics":
        """Count rows.

        Args:
            table: Rows of ``schema.SEQUENCES``; all rows of an utterance, or it counts once in each table.
            vocabulary: What the ids are.
            pattern: How frames became ids.
            corpus: Name of the part that the rows come from.

        Raises:
            CorruptDatasetError: Numbers of a row contradict its ids, or an id stands for nothing.
        """
        ids = read_ids(table, vocabulary)
        before = _ids_before_bpe(table, ids, vocabulary, pattern)
        seconds = table["seconds"].to_numpy()
        wrong = ~(np.isfinite(seconds) & (seconds >= 0))
        if wrong.any():
            raise CorruptDatasetError(f"{_name(table, wrong)} lasts {seconds[wrong][0]} seconds; export it anew")
        microseconds = np.rint(seconds * MICROSECONDS).astype(np.int64)
        first, lasting = _utterances(table, microseconds)
        valid = table["valid"].to_numpy().astype(bool)
        sides = [
            _count(table, side, ids, before, microseconds, np.where(first, lasting, -1), corpus)
            for side in (~valid, valid)
        ]
        return cls(train=sides[0], valid=sides[1])

    @classmethod
    def total(cls, parts: Iterable["Statistics"]) -> "Statistics":
        """Add statistics up: what ``+`` does, without a copy for each part and holding one part at a time."""
        train, valid = _Sum(), _Sum()
        for part in parts:
            train.add(part.train)
            valid.add(part.valid)
        return cls(train=train.counts(), valid=valid.counts())

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics.total([self, other])

    @property
    def all(self) -> Counts:
        """Counts of both sides together."""
        both = _Sum()
        both.add(self.train)
        both.add(self.valid)
        return both.counts()

    def to_json(self) -> dict[str, Any]:
        """Write both sides; equal statistics are written alike."""
        return {"version": STATISTICS_VERSION, TRAIN: self.train.to_json(), VALID: self.valid.to_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any], source: str) -> "Statistics":
        """Read what ``to_json`` gave.

        Raises:
            CorruptDatasetError: These are no statistics, or those of another version.
        """
        try:
            if found["version"] != STATISTICS_VERSION:
                raise ValueError(f"version {found['version']}, this is {STATISTICS_VERSION}")
            return cls(train=Counts.from_json(found[TRAIN]), valid=Counts.from_json(found[VALID]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CorruptDatasetError(f"{source} holds no statistics ({error!r}); export it anew") from error


class _Sum:
    """Counts that grow."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(_TOTALS, 0)
        self.lengths = np.zeros(len(LENGTH_EDGES) + 1, np.int64)
        self.uses = np.zeros(0, np.int64)
        self.groups: dict[str, dict[str | None, tuple[int, int]]] = {group: {} for group in GROUPS}

    def add(self, part: Counts) -> None:
        for name in _TOTALS:
            self.totals[name] += getattr(part, name)
        self.lengths += part.lengths
        missing = len(part.uses) - len(self.uses)
        if missing > 0:
            self.uses = np.concatenate([self.uses, np.zeros(missing, np.int64)])
        self.uses[: len(part.uses)] += part.uses
        for group, found in self.groups.items():
            for value, (microseconds, ids) in part.groups[group].items():
                before = found.get(value, (0, 0))
                found[value] = before[0] + microseconds, before[1] + ids

    def counts(self) -> Counts:
        return Counts(**self.totals, lengths=self.lengths, uses=self.uses, groups=self.groups)


def read_ids(table: pa.Table, vocabulary: Vocabulary) -> np.ndarray:
    """Give the ids of all rows, one after the other.

    Args:
        table: Columns ``utterance_id``, ``num_ids`` and ``ids`` of ``schema.SEQUENCES``.
        vocabulary: What the ids are.

    Returns:
        (I,) in the vocabulary's dtype, I the sum of ``num_ids``.

    Raises:
        CorruptDatasetError: Bytes and ``num_ids`` differ, or an id stands for nothing.
    """
    pieces, itemsize = [], vocabulary.dtype.itemsize
    for chunk in table["ids"].chunks:
        offsets = np.frombuffer(chunk.buffers()[1], np.int64, len(chunk) + 1, 8 * chunk.offset)
        pieces.append(np.frombuffer(chunk.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]])
    sizes = _lengths(table["ids"])
    wrong = sizes != table["num_ids"].to_numpy() * itemsize
    if wrong.any():
        raise CorruptDatasetError(
            f"{_name(table, wrong)} has {sizes[wrong][0]} bytes of ids, which is not num_ids times {itemsize}; "
            "export it anew"
        )
    ids: np.ndarray = np.concatenate([np.zeros(0, np.uint8), *pieces]).view(vocabulary.dtype)
    outside = (ids >= vocabulary.used) | (ids < 0)
    if outside.any():
        raise CorruptDatasetError(
            f"id {int(ids[outside][0])} stands for nothing in a vocabulary of {vocabulary.used}; the sequences belong "
            "to another vocabulary.json"
        )
    return ids


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    """Give the bytes of each cell, int64 (R,)."""
    offsets = [
        np.diff(np.frombuffer(chunk.buffers()[1], np.int64, len(chunk) + 1, 8 * chunk.offset))
        for chunk in column.chunks
    ]
    return np.concatenate([np.zeros(0, np.int64), *offsets])


def _ids_before_bpe(table: pa.Table, ids: np.ndarray, vocabulary: Vocabulary, pattern: Pattern) -> np.ndarray:
    """Count the ids of each row without unit BPE, int64 (R,).

    BPE merges tokens of kept frames and nothing else, so these are as many as frames and layers say, whatever they
    were merged to; what a delay leaves open, text and special tokens are there as they are.
    """
    num_ids = table["num_ids"].to_numpy()
    unmerged = (ids < vocabulary.units_start) | (ids >= vocabulary.units_end)
    before: np.ndarray = table["num_kept"].to_numpy() * len(pattern.columns) + _sum_rows(unmerged, num_ids)
    wrong = before < num_ids if vocabulary.bpe else before != num_ids
    if wrong.any():
        raise CorruptDatasetError(
            f"{_name(table, wrong)} has {num_ids[wrong][0]} ids, its kept frames and layers say {before[wrong][0]}; "
            "the sequences belong to another pattern, or export them anew"
        )
    return before


def _sum_rows(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sum values (I,) over rows of these lengths (R,)."""
    ends = np.cumsum(lengths)
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    found: np.ndarray = sums[ends] - sums[ends - lengths]
    return found


def _utterances(table: pa.Table, microseconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say of each row whether its utterance begins there, and how long all rows of the utterance last."""
    codes = table["utterance_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((table["first_frame"].to_numpy(), codes))
    first = np.zeros(len(table), bool)
    first[order[np.flatnonzero(np.diff(codes[order], prepend=-1))]] = True
    lasting = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    np.add.at(lasting, codes, microseconds)
    return first, lasting[codes]


def _count(
    table: pa.Table,
    side: np.ndarray,
    ids: np.ndarray,
    before: np.ndarray,
    microseconds: np.ndarray,
    lasting: np.ndarray,
    corpus: str,
) -> Counts:
    """Count the rows of one side; ``lasting`` is -1 except where an utterance begins."""
    num_ids = table["num_ids"].to_numpy()
    lengths = lasting[side & (lasting >= 0)]
    amounts = pa.table({"microseconds": microseconds[side], "ids": num_ids[side]})
    groups: dict[str, Mapping[str | None, tuple[int, int]]] = {}
    for group in GROUPS[:2]:
        summed = (
            amounts.append_column("value", table[group].filter(pa.array(side)))
            .group_by("value")
            .aggregate([("microseconds", "sum"), ("ids", "sum")])
        )
        columns = (summed[name].to_pylist() for name in ("value", "microseconds_sum", "ids_sum"))
        groups[group] = {value: (lasted, held) for value, lasted, held in zip(*columns, strict=True)}
    total = int(microseconds[side].sum()), int(num_ids[side].sum())
    groups["corpus"] = {corpus: total} if side.any() else {}
    return Counts(
        utterances=len(lengths),
        rows=int(side.sum()),
        microseconds=total[0],
        frames=int(table["num_frames"].to_numpy()[side].sum()),
        kept_frames=int(table["num_kept"].to_numpy()[side].sum()),
        ids_before_bpe=int(before[side].sum()),
        ids=total[1],
        lengths=np.bincount(np.searchsorted(LENGTH_EDGES, lengths, "right"), minlength=len(LENGTH_EDGES) + 1),
        uses=np.bincount(ids[np.repeat(side, num_ids)]),
        groups=groups,
    )


def _to_columns(found: Mapping[str | None, tuple[int, int]]) -> list[list[Any]]:
    """Give values, microseconds and ids as three lists, unknown first."""
    rows = sorted(found.items(), key=lambda item: (item[0] is not None, item[0] or ""))
    return [[value for value, _ in rows], [amounts[0] for _, amounts in rows], [amounts[1] for _, amounts in rows]]


def _name(table: pa.Table, wrong: np.ndarray) -> str:
    """Name the first utterance that is wrong."""
    name: str = table["utterance_id"][int(np.flatnonzero(wrong)[0])].as_py()
    return name
