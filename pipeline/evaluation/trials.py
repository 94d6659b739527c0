"""Trials of speaker verification: pairs of utterances, and whether one speaker says both."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.candidate import stem
from pipeline.audio.manifest import encode_id
from pipeline.errors import SettingsError

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class TrialList:
    """A list of trials.

    Attributes:
        first: Id of each trial's first utterance.
        second: Id of its second.
        same: Whether both are of one speaker.
        sha256: Of the file.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    same: tuple[bool, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundTrials:
    """The trials both of whose utterances were evaluated.

    Attributes:
        first: Row of each trial's first utterance, int64 (N,).
        second: Row of its second, int64 (N,).
        same: bool (N,).
        left_out: Trials with an utterance that was not.
        absent: Ids of those utterances, sorted.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    left_out: int
    absent: tuple[str, ...]


def read_trials(path: str) -> TrialList:
    """Read trials: a line each, ``1 ID ID`` as VoxCeleb's, or ``1,ID,ID`` in a file ending in .csv.

    Raises:
        SettingsError: The file cannot be read, or a line is no trial.
    """
    try:
        data = Path(path).read_bytes()
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"trials {path} cannot be read: {error}") from error
    rows: list[list[str]] = list(csv.reader(lines)) if path.endswith(".csv") else [line.split() for line in lines]
    found: list[list[str]] = []
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and path.endswith(".csv") and row[0].strip() not in ("0", "1")):
            continue
        if len(row) != 3 or row[0].strip() not in ("0", "1"):
            raise SettingsError(f"{path}, line {number}: a trial is 1 or 0 and two utterance ids, got {row!r:.120}")
        found.append([cell.strip() for cell in row])
    if not found:
        raise SettingsError(f"{path} has no trials")
    return TrialList(
        first=tuple(row[1] for row in found),
        second=tuple(row[2] for row in found),
        same=tuple(row[0] == "1" for row in found),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def find_trials(trials: TrialList, utterance_ids: Sequence[str]) -> FoundTrials:
    """Find the rows of trials.

    A trial names an utterance by its id, or by the path of its recording, with the extension or without: such a name
    is looked up as ids are spelt. So the lists of VoxCeleb are read as they are.

    Raises:
        SettingsError: None is left of one kind.
    """
    ids = {name: place for place, name in enumerate(utterance_ids)}
    pairs = list(zip(trials.first, trials.second, trials.same, strict=True))
    named = {name for a, b, _ in pairs for name in (a, b)}
    places = {name: ids[spelt] for name in named if (spelt := _spelt(name, ids)) is not None}
    kept = [(places[a], places[b], same) for a, b, same in pairs if a in places and b in places]
    absent = tuple(sorted(named - set(places)))
    targets = sum(same for *_, same in kept)
    if not 0 < targets < len(kept):
        told = f"; not evaluated were {shown(absent)}" if absent else ""
        raise SettingsError(
            f"trials of one speaker and of two are needed, got {targets} and {len(kept) - targets} among the "
            f"utterances evaluated{told}"
        )
    table = np.array(kept, np.int64)
    return FoundTrials(
        first=table[:, 0],
        second=table[:, 1],
        same=table[:, 2].astype(bool),
        left_out=len(pairs) - len(kept),
        absent=absent,
    )


def _spelt(name: str, ids: Mapping[str, int]) -> str | None:
    """Give the id that a trial means; None where there is none."""
    spellings = (name, encode_id(name), encode_id(stem(name)))
    return next((spelling for spelling in spellings if spelling in ids), None)


def shown(names: Sequence[str]) -> str:
    """Name the first few of many."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
