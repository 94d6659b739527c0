"""Listings: tables of utterances as CSV, TSV, JSON lines or Parquet, read row by row into candidates.

NeMo manifests and the metadata files of audio folders open as they are: see ``COLUMNS`` for the names understood.
A row that cannot be used becomes a candidate with a problem, never an exception; a table that cannot be read, or
holds no column of paths, is a ManifestError. Memory: one row (Parquet: 10,000).
"""

import csv
import itertools
import math
import posixpath
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, locate, printable, shown, stem
from pipeline.audio.lines import Lines
from pipeline.audio.manifest import encode_id
from pipeline.audio.rows import json_row, read_header, table_reader, table_rows
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver, UnreadColumns
from pipeline.redaction import redact_uri
from pipeline.schema import LABELS, Reason
from pipeline.store.storage import open_store

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "uri": ("uri", "audio_filepath", "path", "audio", "audio_path", "file", "file_name"),
    "utterance_id": ("utterance_id", "id"),
    "offset": ("offset", "offset_seconds"),
    "duration": ("duration", "duration_seconds"),
    "channel": ("channel",),
    "text": ("text", "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id"),
    "emotion": ("emotion",),
    "language": ("language", "lang"),
    "split": ("split",),
    "clean_uri": ("clean_uri",),
}
"""The names of a column in the order of preference; other columns are passed over and counted."""

KNOWN_COLUMNS = frozenset(name for names in COLUMNS.values() for name in names)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")

_ROWS_SEARCHED = 20
_PARQUET_BATCH = 10_000
_Row = tuple[int, Mapping[str, Any] | str]
"""The number of a row or line, from 1, and its values by column; or what is wrong with it."""


def read_listing(listing: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read a listing into candidates, in its own order.

    An utterance without an id of its own is named by its path from the listing's folder (an absolute path elsewhere
    by all of itself), with ``@`` and the offset in seconds where the row has one, and ``@c`` and the channel
    likewise: so no row's id hangs on another row. Relative paths start at the listing's folder.

    Args:
        listing: A local path or S3 URI that ends as one of ``SUFFIXES``; ``.json`` holds JSON lines too.
        passed_over: Counts columns that are not read.

    Raises:
        ManifestError: The listing is absent, unreadable or empty, or has no column of paths.
    """
    folder, _, name = listing.rpartition("/")
    columns = UnreadColumns(COLUMNS)
    empty = True
    try:
        with open_store(folder or "/").open(name) as file:
            for number, row in _rows(file, name.lower(), listing, columns, passed_over):
                empty = False
                if not isinstance(row, str):
                    columns.see(row)
                yield _candidate(number, row, folder or "/")
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise ManifestError(f"the listing {listing} cannot be read: {error}") from error
    if empty:
        raise ManifestError(f"the listing {listing} has no rows")
    columns.count(passed_over, listing)


def _rows(file: IO[bytes], name: str, listing: str, columns: UnreadColumns, passed_over: PassedOver) -> Iterator[_Row]:
    if name.endswith(".parquet"):
        return _parquet_rows(file, listing, columns)
    if name.endswith((".csv", ".tsv")):
        return _csv_rows(Lines(file), listing, columns, passed_over, tabs=name.endswith(".tsv"))
    # Between the words of JSON a carriage return is a blank.
    return _json_rows(Lines(file, returns=False), listing)


def _parquet_rows(file: IO[bytes], listing: str, columns: UnreadColumns) -> Iterator[_Row]:
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    _require_uri_column(names, listing)
    columns.see(dict.fromkeys(names))
    read = [name for name in names if name in KNOWN_COLUMNS]
    first = 1
    for group in range(table.num_row_groups):
        number, size = first, table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH, row_groups=[group], columns=read):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
        except (ValueError, pa.ArrowException, OSError) as error:
            # Arrow says with OSError, but without a number, that bytes are not what they should be.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            yield number, f"and those up to {first + size - 1} are lost, the row group is damaged: {error}"
        first += size


def _csv_rows(
    lines: Lines, listing: str, columns: UnreadColumns, passed_over: PassedOver, *, tabs: bool
) -> Iterator[_Row]:
    reader = table_reader(lines, tabs=tabs)
    header = read_header(reader, listing)
    if not header:
        raise ManifestError(f"the listing {listing} is empty; its first line must name the columns")
    _require_uri_column(header, listing)
    if len(set(header)) < len(header):
        raise ManifestError(f"the listing {listing} names a column twice: {', '.join(header)}")
    columns.see(dict.fromkeys(header))
    for row in table_rows(reader, lines, header, passed_over=passed_over, table=listing):
        yield row[0], row[1] if isinstance(row[1], str) else fields.untyped(row[1], COLUMNS, passed_over)


def _json_rows(lines: Lines, listing: str) -> Iterator[_Row]:
    array = lines.peek().lstrip().startswith("[")
    numbered = lines.numbered()
    head = [(number, json_row(line)) for number, line in itertools.islice(numbered, _ROWS_SEARCHED)]
    objects = [row for _, row in head if isinstance(row, dict)]
    if head and (array or not objects):
        raise ManifestError(f"the listing {listing} must hold one JSON object a line, not an array or anything else")
    if head:
        _require_uri_column(sorted({key for row in objects for key in row}), listing)
    return itertools.chain(head, ((number, json_row(line)) for number, line in numbered))


def _require_uri_column(names: list[str], listing: str) -> None:
    if not set(names) & set(COLUMNS["uri"]):
        raise ManifestError(
            f"the listing {listing} has no column of paths ({', '.join(COLUMNS['uri'])}); "
            f"it has: {printable(', '.join(names))[:500]}"
        )


def _candidate(number: int, row: Mapping[str, Any] | str, folder: str) -> Candidate:
    """Turn a row into a candidate, with a problem where it cannot be used."""
    written, given = None, None
    try:
        if isinstance(row, str):
            raise _bad(row)
        given = _text(row, "utterance_id")
        written = _value(row, "uri")
        if written is None:
            raise _bad("no path to the audio")
        if not isinstance(written, str):
            raise _bad("the path to the audio is not text; audio inside a table is not read")
        uri = locate(written, folder)
        offset, duration = _seconds(row, "offset"), _seconds(row, "duration")
        channels = fields.channels(row, COLUMNS["channel"])
        if duration == 0:
            raise _bad("duration is 0 seconds")
        labels = read_labels(row, folder)
        return Candidate(
            utterance_id=encode_id(given or _name(written, uri, folder, offset, channels)),
            uri=uri,
            offset_seconds=offset,
            duration_seconds=duration,
            **_channels(channels),
            **labels,
        )
    except AudioDecodeError as error:
        return Candidate(
            utterance_id=encode_id(given or f"@row{number}"),
            uri=printable(redact_uri(written)) if isinstance(written, str) else "",
            problem=(str(error.reason), f"row {number} of the listing: {error.detail}"),
        )


def read_labels(row: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Read the labels of a recording from a row, by the column names of listings.

    Args:
        row: Values by column.
        folder: Where relative paths begin.

    Returns:
        A value or None for each of ``schema.LABELS``.

    Raises:
        AudioDecodeError: BAD_ROW for a label that is not text.
    """
    labels: dict[str, Any] = {label: _text(row, label) for label in LABELS}
    if labels["clean_uri"] is not None:
        labels["clean_uri"] = locate(labels["clean_uri"], folder)
    return labels


def read_segment(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read which part of a recording inside a container is meant: offset, duration (seconds) and channel.

    A duration without an offset only describes the recording there (the metadata of most corpora has one, rounded),
    so it cuts nothing.

    Raises:
        AudioDecodeError: BAD_ROW for a number that cannot be, BAD_SEGMENT for one past any recording.
    """
    offset = _seconds(row, "offset")
    duration = None if offset is None else _seconds(row, "duration")
    if duration == 0:
        raise _bad("duration is 0 seconds")
    heard = _channels(fields.channels(row, COLUMNS["channel"]))
    return {"offset_seconds": offset, "duration_seconds": duration, **heard}


def read_id(row: Mapping[str, Any]) -> str | None:
    """Read the id that a row gives itself.

    Raises:
        AudioDecodeError: BAD_ROW for one that is not text.
    """
    return _text(row, "utterance_id")


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)


def _value(row: Mapping[str, Any], field: str) -> Any:
    return fields.first(row, COLUMNS[field])


def _text(row: Mapping[str, Any], field: str) -> str | None:
    return fields.label(row, COLUMNS[field], field)


def _seconds(row: Mapping[str, Any], field: str) -> float | None:
    value = _value(row, field)
    try:
        seconds = None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise _bad(f"{field} must be a number of seconds, got {shown(value)}") from None
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise _bad(f"{field} must be finite and at least 0 seconds, got {seconds}")
    fields.check_seconds(seconds or 0.0)
    return seconds


def _channels(found: tuple[int, ...]) -> dict[str, Any]:
    """Spell channels as the fields of a candidate: one, or several."""
    return {"channel": found[0] if len(found) == 1 else None, "channels": found if len(found) > 1 else ()}


def _name(written: str, uri: str, folder: str, offset: float | None, channels: tuple[int, ...]) -> str:
    below = uri.removeprefix(folder.rstrip("/") + "/")
    if below == uri and not written.startswith("/") and "://" not in written:
        # Above the folder: the path as written, because the absolute one would differ between machines.
        below = posixpath.normpath(written)
    name = stem(below.removeprefix("s3://"))
    if offset is not None:
        name += "@" + f"{offset:.6f}".rstrip("0").rstrip(".")
    return name + ("@c" + "-".join(map(str, channels)) if channels else "")
