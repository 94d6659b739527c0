"""Which side an utterance is on: training, validation, a test; by hash, by a column, or by leaving values out.

A side follows from the seed and the utterance's own row alone, so no growth of the corpus moves an utterance.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline import schema
from pipeline.errors import SettingsError

TRAIN = "train"
VALIDATION = "validation"

Labels = Mapping[str, str | None]


def share(seed: int, value: str) -> float:
    """Give the place of an utterance, or of a label's value, in [0, 1), whatever else there is."""
    digest = hashlib.blake2b(f"{seed}\0validation\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(frozen=True, kw_only=True)
class ByHash:
    """Sides of random utterances; those of no other side are trained on.

    Attributes:
        seed: Chooses which.
        shares: Share of the utterances on each side that is held out.
        column: Label column whose values are shared out instead, each with all of its utterances, as speakers that are
            all heard in training or not at all; None shares out utterances.
    """

    seed: int
    shares: Mapping[str, float] = field(default_factory=dict)
    column: str | None = None

    def __post_init__(self) -> None:
        if TRAIN in self.shares or not all(0 <= part < 1 for part in self.shares.values()):
            raise SettingsError(f"shares name held-out sides with parts in [0, 1), got {dict(self.shares)}")
        if sum(self.shares.values()) >= 1:
            raise SettingsError(f"shares leave nothing for training: {dict(self.shares)}")
        check_label_columns(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that are looked at."""
        return () if self.column is None else (self.column,)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Sides that are not trained on."""
        return tuple(side for side, part in self.shares.items() if part > 0)

    def side(self, utterance_id: str, labels: Labels) -> str | None:
        """Give the side of an utterance; None where its label is null."""
        value = utterance_id if self.column is None else labels[self.column]
        if value is None:
            return None
        place = share(self.seed, value)
        until = 0.0
        for side, part in self.shares.items():
            until += part
            if place < until:
                return side
        return TRAIN


@dataclass(frozen=True, kw_only=True)
class ByColumn:
    """Sides by the values of a label column, as of ``split``, or of speakers that are left out.

    Attributes:
        column: The column.
        values: Its values on each side.
        rest: How utterances of other values, and of none, are divided; None leaves them out.
    """

    column: str
    values: Mapping[str, tuple[str, ...]]
    rest: "Sides | None" = None

    def __post_init__(self) -> None:
        named = Counter(value for values in self.values.values() for value in values)
        if twice := sorted(value for value, count in named.items() if count > 1):
            raise SettingsError(f"values of {self.column} are named twice: {', '.join(twice)}")
        if empty := sorted(side for side, values in self.values.items() if not values):
            raise SettingsError(f"no value of {self.column} is named for {', '.join(empty)}")
        check_label_columns(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that are looked at."""
        rest = () if self.rest is None else self.rest.columns
        return tuple(dict.fromkeys([self.column, *rest]))

    @property
    def held_out(self) -> tuple[str, ...]:
        """Sides that are not trained on."""
        rest = () if self.rest is None else self.rest.held_out
        return tuple(dict.fromkeys([*(side for side in self.values if side != TRAIN), *rest]))

    def side(self, utterance_id: str, labels: Labels) -> str | None:
        """Give the side of an utterance; None where it is on none."""
        value = labels[self.column]
        for side, values in self.values.items():
            if value in values:
                return side
        return None if self.rest is None else self.rest.side(utterance_id, labels)


@dataclass(frozen=True, kw_only=True)
class Within:
    """Sides of some values of a label column alone; utterances of others are on none.

    Attributes:
        column: The column.
        values: Its values whose utterances are divided.
        rest: How.
    """

    column: str
    values: tuple[str, ...]
    rest: "Sides"

    def __post_init__(self) -> None:
        check_label_columns(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that are looked at."""
        return tuple(dict.fromkeys([self.column, *self.rest.columns]))

    @property
    def held_out(self) -> tuple[str, ...]:
        """Sides that are not trained on."""
        return self.rest.held_out

    def side(self, utterance_id: str, labels: Labels) -> str | None:
        """Give the side of an utterance; None where its value is none of these."""
        return self.rest.side(utterance_id, labels) if labels[self.column] in self.values else None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One side of all utterances, none of which is trained on: a corpus that others are judged on.

    Attributes:
        side_name: What it is called.
    """

    side_name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns that are looked at: none."""
        return ()

    @property
    def held_out(self) -> tuple[str, ...]:
        """The one side."""
        return (self.side_name,)

    def side(self, utterance_id: str, labels: Labels) -> str:
        """Give the side of every utterance."""
        return self.side_name


Sides = ByHash | ByColumn | Within | Whole


def check_label_columns(columns: Sequence[str]) -> None:
    """Refuse columns that hold no labels.

    Raises:
        SettingsError: There is one.
    """
    if unknown := sorted(set(columns) - set(schema.LABELS)):
        raise SettingsError(f"{', '.join(unknown)} is no label column; there are {', '.join(schema.LABELS)}")


def leave_one_out(column: str, values: Sequence[str], *, side: str = "test", rest: Sides) -> dict[str, ByColumn]:
    """Give as many divisions as there are values, each of which holds one value out.

    Args:
        column: Label column, as ``speaker``.
        values: Its values, as ``survey`` collects them.
        side: What the one left out is for.
        rest: How the others are divided.
    """
    return {value: ByColumn(column=column, values={side: (value,)}, rest=rest) for value in values}
