"""Rows of CSV, TSV and JSON lines: values by column, or what is wrong with the row.

A row that cannot be read costs that row. A quote that is left open makes one row of all that follows, so the lines of a
row behind its first are bounded, and what is lost of them is counted. Memory: a row, whose lines have a limit each
(``lines.py``).
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.audio.fields import parse_json
from pipeline.audio.lines import MAX_LINE, Lines, LongLine
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

MAX_FURTHER = 128 << 10
"""Most characters of a row behind its first line: no open quote takes more rows than these hold."""


class TableReader(Iterator[list[str]]):
    """The cells of one row after the other; after an error the next row can be asked for.

    Args:
        lines: The lines of the table.
        delimiter: What is between cells.
        quotes: Whether a cell may be quoted, and so hold delimiters and line breaks.

    Attributes:
        first: The number of the line in which the last row begins, from 1.
        separators: For each further line of the last row the number of delimiters in it.
    """

    def __init__(self, lines: Lines, delimiter: str, *, quotes: bool) -> None:
        # A cell of one line is as long as that line may be. The limit is one for all readers of the process.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE + MAX_FURTHER))
        self._lines, self._delimiter = lines, delimiter
        self.first = 0
        self.separators: list[int] = []
        self._begins, self._room = True, MAX_FURTHER
        # Strict: a quote left open at the end is an error, not one long field that swallows rows.
        self._rows = csv.reader(
            # Unlike a generator, it goes on after an error; no line is empty.
            iter(self._line, ""),
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
            strict=True,
        )

    def __next__(self) -> list[str]:
        """Give the next row.

        Raises:
            csv.Error: It is not CSV, or has too many lines.
            LongLine: A line of it is too long.
        """
        self._begins, self._room = True, MAX_FURTHER
        self.separators = []
        return next(self._rows)

    def _line(self) -> str:
        begins, self._begins = self._begins, False
        try:
            line = next(self._lines)
        finally:
            if begins:
                self.first = self._lines.number
        if not begins:
            self._room -= len(line)
            self.separators.append(line.count(self._delimiter))
            if self._room < 0:
                raise csv.Error(f"the row has more than {MAX_FURTHER:,} characters behind its first line")
        return line


def table_reader(lines: Lines, *, tabs: bool) -> TableReader:
    """Open CSV, or TSV, in which quotes mean nothing."""
    return TableReader(lines, "\t", quotes=False) if tabs else TableReader(lines, ",", quotes=True)


def read_header(reader: Iterator[list[str]], table: str) -> list[str]:
    """Read the names of the columns; none where the table is empty.

    Raises:
        ManifestError: They cannot be read.
    """
    try:
        return [name.strip() for name in next(reader, [])]
    except (csv.Error, LongLine) as error:
        raise ManifestError(f"the header of {table} cannot be read: {error}") from error


def table_rows(
    reader: TableReader,
    lines: Lines,
    header: list[str],
    *,
    passed_over: PassedOver | None = None,
    table: str = "",
    breaks: bool = True,
) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Give the rows of CSV or TSV behind its header; a row that cannot be read costs that row.

    Args:
        reader: Reads the table.
        lines: The lines that it reads.
        header: Names of the columns.
        passed_over: Counts further lines of a row that are lost with it, and those that are inside quotes although they
            look as rows of this table do.
        table: What names the table for a person.
        breaks: Whether a cell may hold line breaks.

    Returns:
        The number of a row's last line, and its cells by column or what is wrong with it.
    """
    while True:
        try:
            cells, fault = next(reader, None), ""
        except csv.Error as error:
            cells, fault = [], f"not CSV: {error}"
        except LongLine as error:
            cells, fault = [], str(error)
        if cells is None:
            return
        further = lines.number - reader.first
        if cells and len(cells) != len(header):
            fault = f"{len(cells)} fields, but the header has {len(header)}"
        elif further and not breaks:
            fault = fault or "a cell holds a line break"
        if fault and further:
            fault = f"lines {reader.first} to {lines.number} are lost: a quote opened in line {reader.first}; {fault}"
        if further and passed_over is not None:
            alike = reader.separators.count(len(header) - 1) if len(header) > 1 else 0
            where = f"lines {reader.first} to {lines.number} of {table}"
            name = "open quote" if fault else "inside quotes"
            passed_over.add(Kind.UNREAD_LINES, further if fault else alike, example=where, name=name)
        if fault:
            yield lines.number, fault
        elif cells:
            yield lines.number, dict(zip(header, cells, strict=True))


def json_row(line: str | LongLine) -> Mapping[str, Any] | str:
    """Read a line of JSON lines: its object, or what is wrong with it."""
    if isinstance(line, LongLine):
        return str(line)
    try:
        row = parse_json(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"
