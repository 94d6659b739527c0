"""Generations of a dataset: which of its units were opened anew after they were committed, and how often.

    _redo/00001.json                  put-if-absent: the units of generation 1, and why they are made again
    _commits/UNIT.redo-00001.json     the commit of such a unit; that of generation 0 stays beside it
    _attempts-00001/UNIT/...          the attempts at it, which only the end of this generation removes

A unit is of the last generation that names it. docs/decisions/0008-redone-rejects.md says why this is safe.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import CorruptDatasetError
from pipeline.store.storage import Store

_FOLDER = "_redo"


@dataclass(frozen=True, kw_only=True)
class Redo:
    """A generation after the first.

    Attributes:
        number: Its number, from 1 on.
        reasons: Rejects of these reasons are made anew.
        units: The units that held such rejects.
    """

    number: int
    reasons: Sequence[str]
    units: Sequence[str]

    @property
    def name(self) -> str:
        """Name the file that says so."""
        return f"{_FOLDER}/{self.number:05d}.json"

    def to_bytes(self) -> bytes:
        """Give the content of that file."""
        return json.dumps({"reasons": list(self.reasons), "units": list(self.units)}, sort_keys=True).encode()


def read_redos(store: Store) -> list[Redo]:
    """Read the generations of a dataset after the first, in order.

    Raises:
        CorruptDatasetError: One is damaged or gone.
    """
    names = [f"{_FOLDER}/{name}" for name in store.names(_FOLDER)]
    found = []
    for number, (name, data) in enumerate(zip(names, store.read_many(names), strict=True), start=1):
        try:
            redo = Redo(number=number, **json.loads(data))
        except (ValueError, TypeError) as error:
            raise CorruptDatasetError(f"{store.uri}/{name} is damaged ({error}); restore it") from error
        if redo.name != name:
            raise CorruptDatasetError(f"{store.uri}/{redo.name} is gone; restore it")
        found.append(redo)
    return found


def commit_name(unit: str, generation: int) -> str:
    """Name the commit of a unit."""
    return f"_commits/{unit}.redo-{generation:05d}.json" if generation else f"_commits/{unit}.json"


def attempts_folder(generation: int) -> str:
    """Name the folder of the attempts at units of a generation."""
    return f"_attempts-{generation:05d}" if generation else "_attempts"
