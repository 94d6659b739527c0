"""Rejects of a manifest made anew: their candidates are probed again, and what comes of them joins what is there.

All rows that there are stay, in their order. The new ones take their places among them, as if they had been read at
first; so shards may be planned otherwise, and what was made from the manifest no longer fits it. Of a sample of some
hours, new rows may push out those that are last in its order.
Memory: the manifest and its corpus, as when it was built.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.schema import Reason
from pipeline.store.commits import Commit
from pipeline.store.dataset import Dataset
from pipeline.store.generations import Redo, commit_name

_CHANNEL = re.compile(r"\.ch[0-9]+$")


@dataclass(frozen=True, kw_only=True)
class Before:
    """A manifest as it was before its rejects were made anew.

    Attributes:
        rows: Its rows.
        rejects: Its rejects.
        notes: What its first commit noted.
    """

    rows: pa.Table
    rejects: pa.Table
    notes: Mapping[str, Any]


def folder_before(redo: Redo) -> str:
    """Name the folder that keeps the manifest of the generation before."""
    return f"_before-{redo.number:05d}"


def keep_before(dataset: Dataset, redo: Redo) -> Before:
    """Copy the files of the manifest before the first of them is replaced, or find them copied.

    Raises:
        FileNotFoundError: They are not there: another driver has made the new ones, and removed these.
    """
    store, folder = dataset.store, folder_before(redo)
    if not dataset.committed():
        for unit in redo.units:
            # By put-if-absent: another driver may have copied them, and replaced them since.
            store.create(f"{folder}/{unit}.parquet", store.read(dataset.data_file(unit)))
            if store.exists(rejects := f"_rejects/{unit}.parquet"):
                store.create(f"{folder}/{unit}.rejects.parquet", store.read(rejects))
    rows, rejected = [schema.MANIFEST.empty_table()], [schema.REJECTS.empty_table()]
    for unit in redo.units:
        rows.append(_table(store.read(f"{folder}/{unit}.parquet")).cast(schema.MANIFEST))
        if store.exists(rejects := f"{folder}/{unit}.rejects.parquet"):
            rejected.append(_table(store.read(rejects)).cast(schema.REJECTS))
    # All units are of each generation, so that of before is the one that counts one less.
    first = commit_name(redo.units[0], redo.number - 1)
    notes = Commit.from_bytes(store.read(first), f"{dataset.uri}/{first}").notes
    return Before(rows=pa.concat_tables(rows), rejects=pa.concat_tables(rejected), notes=notes)


def _table(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


class Redone:
    """Finds the candidates of chosen rejects, and joins what came of them with what there was."""

    def __init__(self, before: Before, pieces: Sequence[pa.Table], reasons: Sequence[str]) -> None:
        """Look the candidates of the rejects up.

        Args:
            before: The manifest.
            pieces: All candidates of its corpus, in order.
            reasons: Which rejects are made anew.
        """
        self._before = before
        self._places: dict[tuple[str, str], int] = {}
        for piece in pieces:
            for uri, name in zip(piece["uri"].to_pylist(), piece["utterance_id"].to_pylist(), strict=True):
                self._places.setdefault((uri, name), len(self._places))
        self._pieces = pieces
        chosen = (row for row in before.rejects.to_pylist() if row["reason"] in reasons)
        self._chosen = {key for row in chosen if (key := self._key(row)) is not None}
        self._reasons = frozenset(reasons)
        self._left_out = self._find_left_out()

    def candidates(self) -> list[pa.Table]:
        """Give the candidates that are to be probed again, in order, in the pieces in which they were."""
        found = []
        for piece in self._pieces:
            keys = zip(piece["uri"].to_pylist(), piece["utterance_id"].to_pylist(), strict=True)
            found.append(piece.filter(pa.array([key in self._chosen for key in keys], pa.bool_())))
        return [piece for piece in found if piece.num_rows]

    def joined(self, rows: pa.Table, rejects: pa.Table) -> Before:
        """Join what probing gave with what there was.

        Args:
            rows: The rows that it gave.
            rejects: What it rejected.
        """
        held = {row["utterance_id"]: self._key(row) for row in _names(self._before.rows)}
        # What was fine stays, and what came of its candidate now does not count.
        own = [self._key(row) if row["utterance_id"] in held else None for row in _names(rows)]
        again = [
            key is not None and held[row["utterance_id"]] == key for key, row in zip(own, _names(rows), strict=True)
        ]
        taken = [self._taken(row) for row in _names(rows)]
        new = [not one and uri is None for one, uri in zip(again, taken, strict=True)]
        every = pa.concat_tables([self._before.rows, rows.filter(pa.array(new, pa.bool_()))])
        twins = [
            {**row, "stage": "manifest", "reason": Reason.DUPLICATE_ID.value, "detail": _told(row, uri)}
            for row, uri in zip(_names(rows), taken, strict=True)
            if uri is not None
        ]
        return Before(
            rows=every.take(pa.array(self._order(every, held))),
            rejects=pa.Table.from_pylist([*self._rejects(held, rejects), *twins], schema=schema.REJECTS),
            notes=self._before.notes,
        )

    def _find_left_out(self) -> dict[str, tuple[str, str]]:
        """Find candidates that gave neither a row nor a reject: they were not asked for, but their ids are taken.

        Returns:
            The first of each name that several candidates have.
        """
        counts = Counter(name for _, name in self._places)
        shared = {name for name, count in counts.items() if count > 1}
        if not shared:
            return {}
        came = {self._key(row) for row in _names(self._before.rows)}
        came |= {self._key(row) for row in _names(self._before.rejects)}
        found: dict[str, tuple[str, str]] = {}
        for key in self._places:
            if key[1] in shared and key not in came:
                found.setdefault(key[1], key)
        return found

    def _taken(self, row: dict[str, Any]) -> str | None:
        """Give the uri of the candidate that was left out and has taken the id of a row; None where none has."""
        key = self._key(row)
        taker = None if key is None else self._left_out.get(key[1])
        return None if taker is None or taker == key else taker[0]

    def _key(self, row: dict[str, Any]) -> tuple[str, str] | None:
        """Find the candidate that a row or a reject came of: itself, a channel of it, or speech in one of these."""
        names = [row["utterance_id"], row["utterance_id"].rpartition("@")[0]]
        names += [_CHANNEL.sub("", name) for name in names]
        return next(((row["uri"], name) for name in names if (row["uri"], name) in self._places), None)

    def _order(self, rows: pa.Table, held: Mapping[str, tuple[str, str] | None]) -> np.ndarray:
        """Order rows as their candidates; one whose id another recording has taken comes after that."""
        places: list[float] = []
        place = 0.0
        for row in _names(rows):
            key = self._key(row)
            place = self._places[key] if key is not None else place
            taker = held.get(row["utterance_id"], key)
            places.append(place if taker is None or taker == key else max(place, self._places[taker] + 0.5))
        channels = rows["channel"].fill_null(-1).to_numpy()
        order: np.ndarray = np.lexsort((rows["offset_samples"].to_numpy(), channels, np.array(places)))
        return order

    def _rejects(self, held: Mapping[str, tuple[str, str] | None], rejects: pa.Table) -> Iterator[dict[str, Any]]:
        """Give the rejects in their order, those made anew in the places of those before."""
        found: dict[tuple[str, str] | None, list[dict[str, Any]]] = {}
        for row in rejects.to_pylist():
            key = self._key(row)
            if key is None or held.get(row["utterance_id"]) != key:
                found.setdefault(key, []).append(row)
        for row in self._before.rejects.to_pylist():
            if row["reason"] in self._reasons and (key := self._key(row)) is not None:
                yield from found.pop(key, [])
            else:
                yield row


def _told(row: Mapping[str, Any], uri: str) -> str:
    return f"utterance_id {row['utterance_id']} of {row['uri']} is taken by {uri}"


def _names(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.select(["uri", "utterance_id"]).to_pylist()
    return found
