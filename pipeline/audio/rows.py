"""Rows of CSV, TSV and JSON lines: values by column, or what is wrong with the row.

A row that cannot be read costs that row. Memory: a row, whose lines have a limit each (``lines.py``).
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.audio.fields import parse_json
from pipeline.audio.lines import Lines, LongLine
from pipeline.errors import ManifestError

_Reader = Iterator[list[str]]


def table_reader(lines: Lines, *, tabs: bool) -> _Reader:
    """Open CSV, or TSV, in which quotes mean nothing."""
    # Strict: a quote left open at the end is an error, not one long field that swallows rows.
    return csv.reader(
        lines,
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )


def read_header(reader: _Reader, table: str) -> list[str]:
    """Read the names of the columns; none where the table is empty.

    Raises:
        ManifestError: They cannot be read.
    """
    try:
        return [name.strip() for name in next(reader, [])]
    except (csv.Error, LongLine) as error:
        raise ManifestError(f"the header of {table} cannot be read: {error}") from error


def table_rows(reader: _Reader, lines: Lines, header: list[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Give the rows of CSV or TSV behind its header; a row that cannot be read costs that row."""
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield lines.number, f"not CSV: {error}"
            continue
        except LongLine as error:
            yield lines.number, str(error)
            continue
        if cells is None:
            return
        if len(cells) == len(header):
            yield lines.number, dict(zip(header, cells, strict=True))
        elif cells:
            yield lines.number, f"{len(cells)} fields, but the header has {len(header)}"


def json_row(line: str | LongLine) -> Mapping[str, Any] | str:
    """Read a line of JSON lines: its object, or what is wrong with it."""
    if isinstance(line, LongLine):
        return str(line)
    try:
        row = parse_json(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"
