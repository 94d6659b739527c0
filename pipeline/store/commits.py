"""The commit of a unit: which attempt won, and what its files hold."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.errors import CorruptDatasetError

Json = Any

AT_ONCE = 1000
"""Commits that are read, or laid out as rows, at once."""


def canonical(value: Json) -> str:
    """Write JSON in the one form that is hashed and compared: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One committed file: where its attempt lies, and what its bytes are."""

    attempt_file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The attempt that won a unit.

    Attributes:
        unit: Name of the unit.
        attempt: Identifier of the winning attempt.
        data: The data file.
        rejects: The rejects file, None when nothing was rejected.
        seconds: Seconds of audio in the data's rows.
        num_frames: Frames in the data's rows.
        numerics: What the bits may depend on besides the plan: device, instruction set, library versions.
        notes: Counts worth reporting, as near-ties decided exactly.
        beside: Further files of the unit, by visible name.
    """

    unit: str
    attempt: str
    data: FileRecord
    rejects: FileRecord | None
    seconds: float
    num_frames: int
    numerics: Mapping[str, str]
    notes: Mapping[str, Json]
    beside: Mapping[str, FileRecord] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> "Commit":
        """Read a commit.

        Raises:
            CorruptDatasetError: The bytes are no commit.
        """
        try:
            fields = json.loads(data)
            fields["data"] = FileRecord(**fields["data"])
            fields["rejects"] = FileRecord(**fields["rejects"]) if fields["rejects"] else None
            fields["beside"] = {name: FileRecord(**file) for name, file in fields.get("beside", {}).items()}
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptDatasetError(
                f"{source} is not a commit ({error}); delete it and run the stage again"
            ) from error

    def to_json(self) -> str:
        """Give the content of the unit's file in ``_commits``."""
        return canonical(asdict(self))

    @property
    def num_rejects(self) -> int:
        """Rows rejected in this unit."""
        return self.rejects.rows if self.rejects else 0
