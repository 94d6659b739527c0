"""Members of one tar, found by name: for layouts whose manifest and tar are two files in much the same order.

The tar is read only as far as the members that were asked for. Memory: the names and places of what was read of it.
"""

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audio.candidate import printable
from pipeline.audio.tar_members import TarMembers
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason


@dataclass(slots=True, kw_only=True, eq=False)
class _Held:
    name: str
    byte_offset: int
    num_bytes: int
    problem: AudioDecodeError | None
    used: bool = False


class TarIndex:
    """The members of an open tar, found by name, or by name without its ending.

    Args:
        uri: Where the tar lies.
        members: It.
        ignored: Endings of members that are no recordings.
    """

    def __init__(self, uri: str, members: TarMembers, ignored: tuple[str, ...] = ()) -> None:
        self.uri = uri
        self._members = members
        self._ignored = ignored
        self._rest: Iterator[tarfile.TarInfo] = iter(members)
        self._by_name: dict[str, _Held] = {}
        self._by_stem: dict[str, _Held] = {}
        self._end: AudioDecodeError | None = None
        self._read = False

    def __len__(self) -> int:
        """Give the number of members that are held."""
        return len(self._by_stem)

    def find(self, name: str) -> Mapping[str, Any] | None:
        """Give the fields of a candidate that place a member of this name, None where there is none.

        Raises:
            AudioDecodeError: The member cannot be read.
        """
        return self._found(self._by_name, name)

    def find_stem(self, stem: str) -> Mapping[str, Any] | None:
        """Give the place of the first member that has this name but for its ending, None where there is none.

        Raises:
            AudioDecodeError: The member cannot be read.
        """
        return self._found(self._by_stem, stem)

    def take_stem(self, stem: str) -> Mapping[str, Any] | None:
        """Give the place of a member as ``find_stem``, and forget it.

        Raises:
            AudioDecodeError: The member cannot be read.
        """
        try:
            return self._found(self._by_stem, stem)
        finally:
            if (held := self._by_stem.pop(stem, None)) is not None:
                self._by_name.pop(_key(held.name), None)

    def read_to_end(self) -> None:
        """Read the rest of the tar, which may be closed then."""
        while self._next() is not None:
            pass

    def missing(self, name: str) -> AudioDecodeError:
        """Say why a member is not found: what the tar lacks, or where it is damaged."""
        if self._end is not None:
            return AudioDecodeError(self._end.reason, f"{printable(name)} is not found: {self._end.detail}")
        return AudioDecodeError(Reason.MISSING, f"the tar {printable(self.uri)} has no member {printable(name)}")

    def count_unused(self, passed_over: PassedOver) -> None:
        """Read the rest of the tar, and count the recordings that nothing has asked for."""
        met: _Held | None
        for met in [*self._by_stem.values(), *self._by_name.values()]:
            self._count(met, passed_over)
        while (met := self._next()) is not None:
            self._count(met, passed_over)
            self._by_name.clear()
            self._by_stem.clear()

    def _count(self, held: _Held, passed_over: PassedOver) -> None:
        if not held.used:
            held.used = True
            passed_over.add(Kind.UNLISTED_FILES, example=f"{self.uri.rpartition('/')[2]}: {printable(held.name)}")

    def _found(self, table: Mapping[str, _Held], key: str) -> Mapping[str, Any] | None:
        while key not in table and self._next() is not None:
            pass
        held = table.get(key)
        if held is None:
            return None
        held.used = True
        if held.problem is not None:
            raise held.problem
        place = {"member": held.name, "byte_offset": held.byte_offset, "num_bytes": held.num_bytes}
        return {"uri": self.uri, **place}

    def _next(self) -> _Held | None:
        """Read the next recording; None at the end, or where the rest is lost."""
        while not self._read:
            try:
                member = next(self._rest, None)
            except AudioDecodeError as error:
                self._end, member = error, None
            if member is None:
                self._read = True
            elif not member.isdir() and not member.name.endswith(self._ignored):
                held = _Held(
                    name=member.name,
                    byte_offset=member.offset_data,
                    num_bytes=member.size,
                    problem=self._members.problem(member),
                )
                self._by_name[_key(held.name)] = held
                self._by_stem.setdefault(stem_of(_key(held.name)), held)
                return held
        return None


def stem_of(name: str) -> str:
    """Drop the ending of a member's name, whatever it is."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


def _key(name: str) -> str:
    return name.removeprefix("./")
