"""Kaldi's tables, ``id value`` a line: sorted by the bytes of their ids, so that they are read side by side.

Where a table is not sorted, or has an id twice, it is refused with what to do, because what is looked for could not be
found. Source: https://kaldi-asr.org/doc/data_prep.html (Data preparation). Memory: a line of a table; of ``wav.scp``
beside ``segments`` 9 bytes for each recording.
"""

import re
from array import array
from collections.abc import Iterator
from typing import IO

from pipeline.audio import fields
from pipeline.audio.candidate import shown
from pipeline.audio.layouts.files import opened
from pipeline.audio.lines import MAX_LINE, Lines, LongLine, words
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\v\f\r\n"
_LINE = re.compile(f"[{_SPACE}]*([^{_SPACE}]+)(.*)", re.DOTALL)

Line = tuple[int, str, str | LongLine]
"""Its number, from 1; the id; and the rest of the line, or that it is too long."""


def read_table(folder: str, name: str) -> Iterator[Line]:
    """Read a table line by line.

    Raises:
        ManifestError: It is absent, unreadable or not sorted.
    """
    order = _Order(folder, name)
    with opened(join(folder, name)) as file:
        for number, line in Lines(file).numbered():
            match = _LINE.match(line.begin if isinstance(line, LongLine) else line)
            if match is None:
                continue
            key, value = match[1], match[2].strip(_SPACE)
            order.check(number, as_bytes(key))
            yield number, key, line if isinstance(line, LongLine) else value


class Column:
    """The values of a table, asked for by rising ids.

    Args:
        folder: The data folder.
        name: The table; where it is not there, nothing has a value.
        label: What its values are.
        passed_over: Counts ids without a value, and values without an id that was asked for.

    Attributes:
        label: What its values are.
    """

    def __init__(self, folder: str, name: str, label: str, passed_over: PassedOver, *, there: bool) -> None:
        self.label = label
        self._name, self._passed_over, self._there = name, passed_over, there
        self._lines = read_table(folder, name) if there else iter(())
        self._line = next(self._lines, None)

    def value(self, key: str) -> str | None:
        """Give the value of an id, None where it has none.

        Raises:
            AudioDecodeError: BAD_ROW for a line that is too long.
        """
        if not self._there:
            return None
        wanted = as_bytes(key)
        while self._line is not None and as_bytes(self._line[1]) < wanted:
            self._pass_over(self._line)
            self._line = next(self._lines, None)
        value: str | LongLine = ""
        if self._line is not None and self._line[1] == key:
            value = self._line[2]
            self._line = next(self._lines, None)
        if isinstance(value, LongLine):
            raise AudioDecodeError(Reason.BAD_ROW, f"line {value.number} of {self._name}: {value}")
        if not value:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=key, name=self.label)
        columns = {self.label: (self.label,)}
        return fields.untyped({self.label: value}, columns, self._passed_over)[self.label] or None

    def finish(self) -> None:
        """Count what is left when the last id was asked for."""
        while self._line is not None:
            self._pass_over(self._line)
            self._line = next(self._lines, None)

    def _pass_over(self, line: Line) -> None:
        self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{line[1]} of {self._name}", name=self._name)


class Recordings:
    """``wav.scp``, asked for recordings in any order: found by bisection, on a local disk.

    Args:
        folder: The data folder.
        name: The table.

    Raises:
        ManifestError: It is absent, unreadable or not sorted.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._name = name
        try:
            self._file: IO[bytes] = open_store(folder).open_whole(name)
            self._places = self._read(_Order(folder, name))
        except FileNotFoundError as error:
            raise ManifestError(f"there is no file {join(folder, name)}") from error
        except OSError as error:
            raise ManifestError(f"{join(folder, name)} cannot be read: {error.strerror or error}") from error
        self._used = bytearray(len(self._places))
        self._last: tuple[bytes, str] | None = None

    def _read(self, order: "_Order") -> "array[int]":
        """Note where each line begins that is not blank."""
        places = array("q")
        place = len(_BOM) if self._file.read(len(_BOM)) == _BOM else 0
        self._file.seek(place)
        number, within = 0, False
        for piece in iter(lambda: self._file.readline(MAX_LINE), b""):
            number += not within
            for part in piece.split(b"\r"):
                if not within and (key := part.split(None, 1)[:1]):
                    order.check(number, key[0])
                    places.append(place)
                place += len(part) + 1
                within = False
            place -= 1
            # The next piece goes on where a line is too long for one.
            within = not piece.endswith((b"\n", b"\r"))
        return places

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def value(self, key: str) -> str | None:
        """Give what stands behind the id of a recording, None where there is no such id.

        Raises:
            AudioDecodeError: BAD_ROW for a line that is too long.
        """
        wanted = as_bytes(key)
        # Segments of a recording mostly follow each other.
        if self._last is not None and self._last[0] == wanted:
            return self._last[1]
        low, high = 0, len(self._places)
        while low < high:
            middle = (low + high) // 2
            found, value = self._line(middle)
            if found == wanted:
                self._used[middle] = 1
                if value is None:
                    detail = f"the line of {shown(key)} in {self._name} has more than {MAX_LINE:,} characters"
                    raise AudioDecodeError(Reason.BAD_ROW, detail)
                self._last = found, value
                return value
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        return None

    def unused(self) -> Iterator[tuple[str, str]]:
        """Give the recordings that were not asked for: id and value, which is empty where the line is too long."""
        for number, used in enumerate(self._used):
            if not used:
                key, value = self._line(number)
                yield key.decode("utf-8", "surrogateescape"), value or ""

    def _line(self, number: int) -> tuple[bytes, str | None]:
        """Read a line: id and value, None where it is too long."""
        self._file.seek(self._places[number])
        read = self._file.readline(MAX_LINE + 1)
        line, end, _ = read.lstrip().partition(b"\r")
        key, *rest = line.split(None, 1)
        if len(read) > MAX_LINE and not end:
            return key, None
        return key, b"".join(rest).decode("utf-8", "surrogateescape").strip(_SPACE)


class _Order:
    """Refuses ids that do not rise."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder, self._name, self._last = folder, name, b""

    def check(self, number: int, key: bytes) -> None:
        if key <= self._last:
            here, before = (shown(each.decode("utf-8", "surrogateescape")) for each in (key, self._last))
            told = f"has {here} twice" if key == self._last else f"has {here} behind {before}"
            raise ManifestError(
                f"line {number} of {join(self._folder, self._name)} {told}; Kaldi's tables are sorted by id in the C "
                f"locale, each id once: run utils/fix_data_dir.sh {self._folder}, or sort each table by "
                "LC_ALL=C sort -u -k1,1"
            )
        self._last = key


def as_bytes(key: str) -> bytes:
    """Give the bytes of an id, by which Kaldi sorts."""
    return key.encode("utf-8", "surrogateescape")


def word(value: str | None, field: str) -> str | None:
    """Take a value that must be one word.

    Raises:
        AudioDecodeError: BAD_ROW for several.
    """
    if value is not None and len(words(value)) > 1:
        raise AudioDecodeError(Reason.BAD_ROW, f"{field} must be one word, got {shown(value)}")
    return value
