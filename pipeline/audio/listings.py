"""Listings: tables of utterances as CSV, TSV, JSON lines or Parquet, read row by row into candidates.

NeMo manifests and the metadata files of audio folders open as they are: see ``COLUMNS`` for the names understood.
A row that cannot be used becomes a candidate with a problem, never an exception; a table that cannot be read, or
holds no column of paths, is a ManifestError. Memory: one row (Parquet: 10,000).
"""

import csv
import io
import itertools
import json
import math
import posixpath
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.candidate import Candidate, locate, printable, refuse_secret_name, shown, stem, storable
from pipeline.audio.manifest import encode_id
from pipeline.errors import AudioDecodeError, ManifestError
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
"""The names of a column in the order of preference; other columns are ignored."""

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")

_ROWS_SEARCHED = 20
_PARQUET_BATCH = 10_000
_MAX_CHANNEL = 2**31 - 1
_Row = tuple[int, Mapping[str, Any] | str]
"""The number of a row or line, from 1, and its values by column; or what is wrong with it."""


def read_listing(listing: str) -> Iterator[Candidate]:
    """Read a listing into candidates, in its own order.

    An utterance without an id of its own is named by its path from the listing's folder (an absolute path elsewhere
    by all of itself), with ``@`` and the offset in seconds where the row has one, and ``@c`` and the channel
    likewise: so no row's id hangs on another row. Relative paths start at the listing's folder.

    Args:
        listing: A local path or S3 URI that ends as one of ``SUFFIXES``; ``.json`` holds JSON lines too.

    Raises:
        ManifestError: The listing is absent, unreadable or empty, or has no column of paths.
    """
    folder, _, name = listing.rpartition("/")
    empty = True
    try:
        with open_store(folder or "/").open(name) as file:
            for number, row in _rows(file, name.lower(), listing):
                empty = False
                yield _candidate(number, row, folder or "/")
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise ManifestError(f"the listing {listing} cannot be read: {error}") from error
    if empty:
        raise ManifestError(f"the listing {listing} has no rows")


def _rows(file: IO[bytes], name: str, listing: str) -> Iterator[_Row]:
    if name.endswith(".parquet"):
        return _parquet_rows(file, listing)
    # Bytes that are not UTF-8 travel as surrogates to the row that holds them, which is then refused alone.
    table = name.endswith((".csv", ".tsv"))
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="" if table else "\n")
    return _csv_rows(text, listing, tabs=name.endswith(".tsv")) if table else _json_rows(text, listing)


def _parquet_rows(file: IO[bytes], listing: str) -> Iterator[_Row]:
    table = pq.ParquetFile(file)
    _require_uri_column(table.schema_arrow.names, listing)
    known = {name for names in COLUMNS.values() for name in names}
    columns = [name for name in table.schema_arrow.names if name in known]
    batches = table.iter_batches(batch_size=_PARQUET_BATCH, columns=columns)
    return enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def _csv_rows(text: IO[str], listing: str, *, tabs: bool) -> Iterator[_Row]:
    # Strict: a quote left open at the end is an error, not one long field that swallows rows.
    reader = csv.reader(
        text,
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise ManifestError(f"the listing {listing} is empty; its first line must name the columns")
    _require_uri_column(header, listing)
    if len(set(header)) < len(header):
        raise ManifestError(f"the listing {listing} names a column twice: {', '.join(header)}")
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"not CSV: {error}"
            continue
        if fields is None:
            return
        if len(fields) == len(header):
            yield reader.line_num, dict(zip(header, fields, strict=True))
        elif fields:
            yield reader.line_num, f"{len(fields)} fields, but the header has {len(header)}"


def _json_rows(text: IO[str], listing: str) -> Iterator[_Row]:
    lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
    head = list(itertools.islice(lines, _ROWS_SEARCHED))
    objects = [row for _, line in head if isinstance(row := _json_row(line), dict)]
    if head and (not objects or head[0][1].lstrip().startswith("[")):
        raise ManifestError(f"the listing {listing} must hold one JSON object a line, not an array or anything else")
    if head:
        _require_uri_column(sorted({key for row in objects for key in row}), listing)
    return ((number, _json_row(line)) for number, line in itertools.chain(head, lines))


def _json_row(line: str) -> Mapping[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def _require_uri_column(names: list[str], listing: str) -> None:
    if not set(names) & set(COLUMNS["uri"]):
        raise ManifestError(
            f"the listing {listing} has no column of paths ({', '.join(COLUMNS['uri'])}); "
            f"it has: {printable(', '.join(names))[:500]}"
        )


def _candidate(number: int, row: Mapping[str, Any] | str, folder: str) -> Candidate:
    """Turn a row into a candidate, with a problem where it cannot be used."""
    uri_shown, given = "", None
    try:
        if isinstance(row, str):
            raise _bad(row)
        given = _text(row, "utterance_id")
        written = _value(row, "uri")
        if written is None:
            raise _bad("no path to the audio")
        if not isinstance(written, str):
            raise _bad("the path to the audio is not text; audio inside a table is not read")
        uri_shown = printable(redact_uri(written))
        uri = locate(written, folder)
        offset, duration, channel = _seconds(row, "offset"), _seconds(row, "duration"), _channel(row)
        if duration == 0:
            raise _bad("duration is 0 seconds")
        labels = read_labels(row, folder)
        return Candidate(
            utterance_id=encode_id(given or _name(written, uri, folder, offset, channel)),
            uri=uri,
            offset_seconds=offset,
            duration_seconds=duration,
            channel=channel,
            **labels,
        )
    except AudioDecodeError as error:
        return Candidate(
            utterance_id=encode_id(given or f"@row{number}"),
            uri=uri_shown,
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
        AudioDecodeError: BAD_ROW for a number that cannot be.
    """
    offset = _seconds(row, "offset")
    duration = None if offset is None else _seconds(row, "duration")
    if duration == 0:
        raise _bad("duration is 0 seconds")
    return {"offset_seconds": offset, "duration_seconds": duration, "channel": _channel(row)}


def read_id(row: Mapping[str, Any]) -> str | None:
    """Read the id that a row gives itself.

    Raises:
        AudioDecodeError: BAD_ROW for one that is not text.
    """
    return _text(row, "utterance_id")


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)


def _value(row: Mapping[str, Any], field: str) -> Any:
    return next((row[name] for name in COLUMNS[field] if row.get(name) not in (None, "")), None)


def _text(row: Mapping[str, Any], field: str) -> str | None:
    value = _value(row, field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _bad(f"{field} must be text, got {shown(value)}")
    text = str(value)
    # A transcript may have several lines; a name or path may not.
    if not storable(text.replace("\n", " ").replace("\r", " ") if field == "text" else text):
        raise _bad(f"{field} is not UTF-8 text without control characters: {shown(text)}")
    if field == "utterance_id":
        refuse_secret_name(text, field)
    return text


def _seconds(row: Mapping[str, Any], field: str) -> float | None:
    value = _value(row, field)
    try:
        seconds = None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise _bad(f"{field} must be a number of seconds, got {shown(value)}") from None
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise _bad(f"{field} must be finite and at least 0 seconds, got {seconds}")
    return seconds


def _channel(row: Mapping[str, Any]) -> int | None:
    value = _value(row, "channel")
    try:
        channel = None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        channel = -1.0
    if channel is None:
        return None
    if not 0 <= channel <= _MAX_CHANNEL or channel != int(channel):
        raise _bad(f"channel must be a whole number from 0, got {shown(value)}")
    return int(channel)


def _name(written: str, uri: str, folder: str, offset: float | None, channel: int | None) -> str:
    below = uri.removeprefix(folder.rstrip("/") + "/")
    if below == uri and not written.startswith("/") and "://" not in written:
        # Above the folder: the path as written, because the absolute one would differ between machines.
        below = posixpath.normpath(written)
    name = stem(below.removeprefix("s3://"))
    if offset is not None:
        name += "@" + f"{offset:.6f}".rstrip("0").rstrip(".")
    return name if channel is None else f"{name}@c{channel}"
