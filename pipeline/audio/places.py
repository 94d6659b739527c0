"""Where in a file a recording lies that is not the whole file: the member of a tar, or a cell of a Parquet table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.schema import PART


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One recording inside a file that holds many.

    Attributes:
        member: Name inside: of the member of a tar, or of the column of audio in a Parquet table.
        byte_offset: First byte of a tar's member.
        num_bytes: Length of a tar's member.
        row_group: Row group of a Parquet cell, from 0.
        row: Its row in that group, from 0.
    """

    member: str
    byte_offset: int | None = None
    num_bytes: int | None = None
    row_group: int | None = None
    row: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self | None:
        """Read the place from a row of a manifest; None for a plain file."""
        return None if row["member"] is None else cls(**{name: row[name] for name in PART})

    def __str__(self) -> str:
        """Name the place for a person."""
        return self.member if self.row is None else f"{self.member}, row group {self.row_group}, row {self.row}"
