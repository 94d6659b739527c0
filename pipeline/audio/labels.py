"""Labels of utterances: the columns of a manifest, whose values become numbers.

A value's number is its place in the sorted list of all values, which the driver collects in one pass over the manifest.
Memory: all values.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.errors import SettingsError
from pipeline.passed_over import Kind, PassedOver

SPLIT = "split"


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values of one label.

    Attributes:
        name: Column of the manifest, or what an alignment's labels are called.
        values: All values, sorted.
        counts: Utterances (or intervals) of each.
    """

    name: str
    values: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, found: Mapping[str, int]) -> "Values":
        """Sort values that were counted."""
        return cls(name=name, values=tuple(sorted(found)), counts=tuple(found[value] for value in sorted(found)))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {value: place for place, value in enumerate(self.values)}

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.counts)

    def number(self, value: object) -> int:
        """Give the number of a value, -1 where there is none."""
        return -1 if value is None else self._places.get(str(value), -1)

    def drawn(self, utterance_id: str) -> int:
        """Draw a value for an utterance by hash, each as often as utterances have it: a label that means nothing.

        What codes seem to tell about it is what they seem to tell about any label by chance, because frames of an
        utterance resemble each other.
        """
        digest = hashlib.blake2b(f"{self.name}\0{utterance_id}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "little") * int(self._ends[-1]) >> 64
        return int(np.searchsorted(self._ends, place, side="right"))


def check_columns(names: Sequence[str]) -> None:
    """Refuse labels that no manifest has.

    Raises:
        SettingsError: One is unknown, or named twice.
    """
    if unknown := sorted(set(names) - set(schema.MANIFEST.names)):
        raise SettingsError(
            f"labels {', '.join(unknown)} are no columns of a manifest; it has {', '.join(schema.MANIFEST.names)} "
            "(the digit of FSDD is its text)"
        )
    if len(set(names)) < len(names):
        raise SettingsError(f"labels are named twice: {' '.join(names)}")


def manifest_values(
    manifest: Manifest, names: Sequence[str], splits: Sequence[str], passed_over: PassedOver
) -> list[Values]:
    """Collect the values of some columns, over the utterances of some splits (default: all).

    Args:
        manifest: The manifest.
        names: Its columns.
        splits: Splits to keep.
        passed_over: Counts utterances of other splits.

    Raises:
        SettingsError: No utterance is in these splits, or a column is empty in all of them.
    """
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    splits_there: Counter[str | None] = Counter()
    kept = 0
    for _, rows in manifest.scan(sorted({SPLIT, *names})):
        splits_there.update(rows[SPLIT].to_pylist())
        chosen = of_splits(rows, splits)
        kept += chosen.num_rows
        for name, counter in found.items():
            counter.update(str(value) for value in chosen[name].to_pylist() if value is not None)
    if not kept:
        there = ", ".join(sorted(str(name) for name in splits_there))
        raise SettingsError(f"{manifest.dataset.uri} has no utterance in splits {' '.join(splits)}; it has {there}")
    if empty := [name for name, counter in found.items() if not counter]:
        raise SettingsError(f"{manifest.dataset.uri} has no values in the columns {', '.join(empty)}")
    for split, count in splits_there.items() if splits else ():
        if split not in splits:
            passed_over.add(Kind.OTHER_SPLITS, count, example=manifest.dataset.uri, name=str(split))
    return [Values.of(name, counter) for name, counter in found.items()]


def of_splits(rows: pa.Table, splits: Sequence[str]) -> pa.Table:
    """Keep the manifest rows of some splits; all where none is named."""
    return rows.filter(pc.is_in(rows[SPLIT], pa.array(splits, pa.string()))) if splits else rows
