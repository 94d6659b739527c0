"""Lines of text files of any origin: byte order mark, line ends and separators as they come, and a limit on a line.

Also the tables of two columns that Kaldi and LibriSpeech keep: a key, blanks or tabs, and the rest of the line.
Memory: a line of at most ``MAX_LINE`` characters, whatever the file holds.
"""

import io
import re
from collections.abc import Iterator
from typing import IO

from pipeline.passed_over import Kind, PassedOver

MAX_LINE = 4 << 20
"""Most characters of a line that is read, line end included; lists of this field have a few hundred."""

_KEY_LENGTH = 1000
# Kaldi separates by what C calls space; other spaces of Unicode belong to the words of a language.
_SPACE = " \t\v\f\r\n"
_WORD = re.compile(f"[^{_SPACE}]+")


class LongLine(Exception):
    """A line that is not read because of its length; the lines after it are.

    Attributes:
        number: Its number, from 1.
        begin: Its first characters.
    """

    def __init__(self, number: int, begin: str, longest: int = MAX_LINE) -> None:
        super().__init__(f"the line has more than {longest:,} characters")
        self.number = number
        self.begin = begin


class Lines(Iterator[str]):
    """The lines of a UTF-8 file, with their ends, as ``csv.reader`` wants them.

    A byte order mark is left out. Bytes that are not UTF-8 travel as surrogates to whoever reads the line. After a
    ``LongLine`` the next line can be asked for: a generator could not go on.

    Args:
        file: An open binary file.
        returns: Whether a carriage return alone ends a line too.
        errors: What becomes of bytes that are not UTF-8, as ``bytes.decode`` has it.
        longest: Most characters of a line, line end included.

    Attributes:
        number: The number of the last line given, from 1.
    """

    def __init__(
        self, file: IO[bytes], *, returns: bool = True, errors: str = "surrogateescape", longest: int = MAX_LINE
    ) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", errors=errors, newline="" if returns else "\n")
        self._ends = ("\n", "\r") if returns else ("\n",)
        self._longest = longest
        self._held: str | LongLine | None = None
        self.number = 0

    def __next__(self) -> str:
        """Give the next line.

        Raises:
            LongLine: It is too long.
        """
        line = self._held if self._held is not None else self._read()
        self._held = None
        if isinstance(line, LongLine):
            raise line
        if not line:
            raise StopIteration
        return line

    def peek(self) -> str:
        """Give the first line that is not blank without taking it; empty where there is none, or it is too long."""
        while self._held is None:
            line = self._read()
            if not isinstance(line, str) or not line or line.strip():
                self._held = line
        return self._held if isinstance(self._held, str) else ""

    def numbered(self) -> Iterator[tuple[int, str | LongLine]]:
        """Give every line that is not blank with its number; one that is too long in its place."""
        while True:
            try:
                line: str | LongLine = next(self)
            except StopIteration:
                return
            except LongLine as error:
                line = error
            if isinstance(line, LongLine) or line.strip():
                yield self.number, line

    def _read(self) -> str | LongLine:
        line = self._text.readline(self._longest + 1)
        self.number += bool(line)
        if len(line) <= self._longest:
            return line
        begin = line[:_KEY_LENGTH]
        while line and not line.endswith(self._ends):
            line = self._text.readline(MAX_LINE)
        return LongLine(self.number, begin, self._longest)


def words(line: str) -> list[str]:
    """Take a line apart at blanks and tabs, however many."""
    return _WORD.findall(line)


def count_twice(passed_over: PassedOver, example: str) -> None:
    """Count a line whose id an earlier one of its table has: the first one is read."""
    passed_over.add(Kind.UNREAD_LINES, example=example, name="id twice")


def pairs(
    file: IO[bytes], table: str, passed_over: PassedOver, *, errors: str = "surrogateescape"
) -> dict[str, str | LongLine]:
    """Read a table of two columns: a key, and all that follows it in its line.

    Args:
        file: An open binary file.
        table: Its name, for examples.
        passed_over: Counts lines whose key an earlier one has.
        errors: What becomes of bytes that are not UTF-8.

    Returns:
        The first value of each key; keys without one are left out, and a line that is too long is in its place.

    Raises:
        UnicodeDecodeError: With ``errors`` strict, the file is not UTF-8.
    """
    found: dict[str, str | LongLine] = {}
    for number, line in Lines(file, errors=errors).numbered():
        key, value = _pair(line.begin if isinstance(line, LongLine) else line)
        if key in found:
            count_twice(passed_over, f"line {number} of {table}")
        elif value:
            found[key] = line if isinstance(line, LongLine) else value
    return found


def _pair(line: str) -> tuple[str, str]:
    match = _WORD.search(line)
    return (match[0], line[match.end() :].strip()) if match else ("", "")
