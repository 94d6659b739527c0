"""The array under one key of a JSON file of any size, element by element.

Memory: one element, at most ``MAX_ELEMENT`` characters of it, twice: as text and as values.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from pipeline.errors import ManifestError

MAX_ELEMENT = 32 << 20
"""Most characters of an element, or of any other value of the file."""

_CHUNK = 64 << 10
_BLANKS = re.compile(r"[ \t\n\r]*")


def array_elements(file: IO[bytes], key: str, name: str) -> Iterator[Any]:
    """Give the elements of an array that is a value of the file's one object.

    Bytes that are not UTF-8 travel as surrogates to whoever reads the text.

    Args:
        file: An open binary file.
        key: The key of the array.
        name: What messages call the file.

    Raises:
        ManifestError: It is no JSON object with such an array and nothing behind it, it is cut, or a value of it is too
            long. Elements before the fault have been given.
    """
    return _Scanner(file, name).elements(key)


class _Scanner:
    """A file that is parsed value by value; the buffer grows to hold one."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
        self._decoder = json.JSONDecoder()
        self._name = name
        self._buffer = ""
        self._at = 0
        self._before = 0
        self._ended = False

    def elements(self, wanted: str) -> Iterator[Any]:
        there = False
        self._take("{")
        more = self._peek() != "}"
        while more:
            key = self._value()
            self._take(":")
            if key == wanted and self._peek() == "[":
                there = True
                yield from self._array()
            else:
                self._value()
            more = self._peek() != "}"
            if more:
                self._take(",")
        self._take("}")
        if found := self._peek():
            raise self._bad(self._at, f"its object ends before, but {found!r} follows; one file holds one object")
        if not there:
            raise ManifestError(f"{self._name} holds no recordings: its object has no array {wanted!r}")

    def _array(self) -> Iterator[Any]:
        self._take("[")
        more = self._peek() != "]"
        while more:
            yield self._value()
            more = self._peek() != "]"
            if more:
                self._take(",")
        self._take("]")

    def _value(self) -> Any:
        self._peek()
        while True:
            fault = None
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
                # A number may go on behind the buffer, or what is there of it: 12 of 12. or of 12.5e.
                if self._ended or end < len(self._buffer) and self._buffer[end] not in ".eE":
                    self._at = end
                    return value
            except RecursionError as error:
                raise self._bad(self._at, "a value is nested too deeply") from error
            except json.JSONDecodeError as error:
                fault = error
            except ValueError as error:
                # Python turns no more digits than sys.get_int_max_str_digits() into a number.
                raise self._bad(self._at, "a number in the value there has too many digits") from error
            if not self._more() and fault is not None:
                raise self._bad(fault.pos, f"the file is cut or damaged there: {fault}") from fault

    def _peek(self) -> str:
        """Pass blanks and show the next character; none at the end."""
        while True:
            blanks = _BLANKS.match(self._buffer, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> None:
        found = self._peek()
        if found != wanted:
            raise self._bad(self._at, f"{wanted!r} was to follow, not {found!r}" if found else f"it lacks {wanted!r}")
        self._at += 1

    def _more(self) -> bool:
        """Read as much again as is held, so that a long value is not parsed more than twice over in all."""
        held = self._buffer[self._at :]
        if len(held) > MAX_ELEMENT:
            raise self._bad(self._at, f"a value has more than {MAX_ELEMENT:,} characters, or is no JSON")
        read = self._file.read(max(_CHUNK, len(held)))
        if not read:
            self._ended = True
            return False
        self._before += self._at
        self._buffer, self._at = held + read, 0
        return True

    def _bad(self, place: int, what: str) -> ManifestError:
        return ManifestError(f"{self._name} cannot be read from character {self._before + place + 1:,} on: {what}")
