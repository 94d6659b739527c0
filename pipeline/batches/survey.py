"""What each side of a manifest holds: one pass over a few columns, on the driver, before anything is trained.

How utterances are divided may follow from which values a column has, which is known at the end of the pass alone. Until
then each division that is still possible is counted: utterances are counted by the sides that they have in all of
those, and the counts are put together where fewer are left. Memory: the values asked for, once per side and division.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline.audio.labels import Values
from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN, Sides, Whole, check_label_columns
from pipeline.errors import SettingsError

_LENGTH = ("num_samples", "sample_rate")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is counted of a label beside its values, as the characters of a text.

    Attributes:
        name: What it is called in ``SideFacts.values``.
        column: The label column.
        of: Gives the parts of a value; each is counted as often as it is given.
    """

    name: str
    column: str
    of: Callable[[str], Iterable[str]]


@dataclass(frozen=True, kw_only=True)
class SideFacts:
    """What a side holds, as a manifest tells.

    Attributes:
        utterances: Its utterances.
        seconds: Their audio.
        unlabelled: Of each column asked for, utterances whose value is null.
        values: Of each column asked for, its values, whose places are class numbers; and of each ``Parts``.
    """

    utterances: int
    seconds: float
    unlabelled: Mapping[str, int]
    values: Mapping[str, Values]

    def counts_of(self, name: str) -> dict[str, int]:
        """Give how often each value, or each part, was counted."""
        found = self.values[name]
        return dict(zip(found.values, found.counts, strict=True))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is counted.

    Attributes:
        needed: Label columns whose nulls are counted.
        classes: Label columns whose values are counted.
        parts: What else is counted of labels.
    """

    needed: Sequence[str] = ()
    classes: Sequence[str] = ()
    parts: Sequence[Parts] = ()

    def __post_init__(self) -> None:
        check_label_columns(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that are read."""
        return tuple(dict.fromkeys([*self.needed, *self.classes, *(part.column for part in self.parts)]))


@dataclass(frozen=True, kw_only=True)
class ByValues:
    """Divisions of which one holds, as the values that a column has tell.

    Attributes:
        column: A label column.
        groups: Values of each group, none of them in two.
        divide: Gives the division where these groups have a value.
    """

    column: str
    groups: Mapping[str, tuple[str, ...]]
    divide: Callable[[frozenset[str]], Sides]

    @classmethod
    def always(cls, sides: Sides) -> "ByValues":
        """Give the one division that holds whatever the values are."""
        return cls(column="", groups={}, divide=lambda _: sides)

    def there(self, values: Iterable[str | None]) -> frozenset[str]:
        """Give the groups that have one of these values."""
        found = set(values)
        return frozenset(group for group, named in self.groups.items() if found & set(named))

    def possible(self, there: frozenset[str]) -> list[Sides]:
        """Give the divisions, each once, that may hold where these groups have a value and others may have."""
        rest = [group for group in self.groups if group not in there]
        found: list[Sides] = []
        for count in range(len(rest) + 1):
            for more in combinations(rest, count):
                sides = self.divide(there | set(more))
                found += [sides] if sides not in found else []
        return found


class _Counts:
    """Counts of some utterances."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.utterances, self.seconds = 0, 0.0
        self.unlabelled = dict.fromkeys(wanted.needed, 0)
        names = [*wanted.classes, *(part.name for part in wanted.parts)]
        self.values: dict[str, Counter[str]] = {name: Counter() for name in names}

    def add(self, row: Mapping[str, Any]) -> None:
        self.utterances += 1
        self.seconds += row["num_samples"] / row["sample_rate"]
        for name in self._wanted.needed:
            self.unlabelled[name] += row[name] is None
        for name in self._wanted.classes:
            if row[name] is not None:
                self.values[name][row[name]] += 1
        for part in self._wanted.parts:
            if row[part.column] is not None:
                self.values[part.name].update(part.of(row[part.column]))

    def join(self, other: "_Counts") -> None:
        self.utterances += other.utterances
        self.seconds += other.seconds
        for name, count in other.unlabelled.items():
            self.unlabelled[name] += count
        for name, counter in other.values.items():
            self.values[name].update(counter)

    def facts(self) -> SideFacts:
        values = {name: Values.of(name, counter) for name, counter in self.values.items()}
        return SideFacts(
            utterances=self.utterances, seconds=self.seconds, unlabelled=dict(self.unlabelled), values=values
        )


class _Pass:
    """Counts by the sides that utterances have in each division that is possible."""

    def __init__(self, divisions: Sequence[Sides], wanted: Wanted) -> None:
        self.divisions, self._wanted = divisions, wanted
        self.counts: dict[tuple[str | None, ...], _Counts] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        self._at(tuple(sides.side(row["utterance_id"], row) for sides in self.divisions)).add(row)

    def keep(self, divisions: Sequence[Sides]) -> None:
        """Go on with fewer divisions."""
        places = [self.divisions.index(sides) for sides in divisions]
        before, self.divisions, self.counts = self.counts, divisions, {}
        for key, counts in before.items():
            self._at(tuple(key[place] for place in places)).join(counts)

    def _at(self, key: tuple[str | None, ...]) -> _Counts:
        if key not in self.counts:
            self.counts[key] = _Counts(self._wanted)
        return self.counts[key]


def survey(manifest: Manifest, sides: Sides | ByValues, wanted: Wanted) -> tuple[Sides, dict[str | None, SideFacts]]:
    """Count what is on each side, and refuse a side that has nothing; training too, unless the corpus is ``Whole``.

    The manifest is read once.

    Args:
        manifest: The manifest.
        sides: How it is divided.
        wanted: What is counted.

    Returns:
        The division that holds; facts by side, under None what is on no side.

    Raises:
        SettingsError: A side is empty, or none of its utterances has a label that is needed.
    """
    options = sides if isinstance(sides, ByValues) else ByValues.always(sides)
    there: frozenset[str] = frozenset()
    found = _Pass(options.possible(there), wanted)
    looked_at = [column for each in found.divisions for column in each.columns]
    split = [options.column] if options.groups else []
    columns = list(dict.fromkeys(["utterance_id", *_LENGTH, *looked_at, *split, *wanted.columns]))
    for _, rows in manifest.scan(columns):
        more = there | options.there(rows[options.column].unique().to_pylist()) if split else there
        if more != there:
            there = more
            found.keep(options.possible(there))
        for row in rows.to_pylist():
            found.add(row)
    held = options.divide(there)
    found.keep([held])
    facts = {side: counts.facts() for (side,), counts in found.counts.items()}
    for side in held.held_out if isinstance(held, Whole) else (TRAIN, *held.held_out):
        _check_side(manifest, held, side, facts)
    return held, facts


def _check_side(manifest: Manifest, sides: Sides, side: str, facts: Mapping[str | None, SideFacts]) -> None:
    if side not in facts:
        told = ", ".join(f"{name or 'on no side'} {each.utterances}" for name, each in facts.items())
        by = f" by {', '.join(sides.columns)}" if sides.columns else " by hash"
        raise SettingsError(f"{manifest.dataset.uri} divided{by} has no utterance for {side}; it has: {told}")
    there = facts[side].utterances
    for name, count in facts[side].unlabelled.items():
        if count == there:
            raise SettingsError(f"{manifest.dataset.uri} has no {name} for any of the {there} utterances of {side}")
