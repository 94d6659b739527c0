"""Segment lists: which stretches of which recordings are utterances, as CSV, TSV, JSON lines, RTTM or Kaldi.

A row that cannot be used keeps its place with a problem; a list that cannot be read is a ManifestError.
Memory: one row, and for Kaldi the ``utt2spk`` and ``text`` beside the list.
"""

import csv
import io
import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from pipeline.audio.candidate import printable, refuse_secret_name, shown, storable
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.schema import Reason
from pipeline.store.storage import absolute, open_store

logger = logging.getLogger(__name__)

FORMATS = ("auto", "csv", "tsv", "jsonl", "rttm", "kaldi")
"""The forms of a segment list; ``auto`` goes by the ending of its name, then by its first line."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "recording": ("recording", "recording_id", "uri", "audio_filepath", "path", "audio", "file", "file_name"),
    "start": ("start", "start_seconds", "offset", "offset_seconds"),
    "end": ("end", "end_seconds"),
    "duration": ("duration", "duration_seconds"),
    "utterance_id": ("utterance_id", "id", "segment_id"),
    "speaker": ("speaker", "speaker_id"),
    "text": ("text", "transcript", "transcription", "sentence"),
}
"""The names of a column in the order of preference; other columns are ignored."""

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".rttm": "rttm"}
_RTTM_FIELDS = (9, 10)
_MISSING = ("<NA>", "")
_TO_THE_END = -1.0
_Row = tuple[int, Mapping[str, Any] | str]
"""The number of a line, from 1, and its values by field; or what is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSegment:
    """One row of a segment list.

    Attributes:
        row: Its line, from 1.
        recording: Name of the recording as written.
        start_seconds: Start in the recording, seconds; None in a row with a problem.
        end_seconds: End in the recording, seconds; None is to the end of the recording.
        utterance_id: The id that the list gives, as written.
        speaker: Who speaks.
        text: What is said.
        problem: A ``schema.Reason`` and a sentence, where the row cannot be used.
    """

    row: int
    recording: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    utterance_id: str | None = None
    speaker: str | None = None
    text: str | None = None
    problem: tuple[str, str] | None = None


def read_segments(path: str, form: str = "auto") -> Iterator[ListedSegment]:
    """Read a segment list, in its own order.

    ==========  ===============================================================================================
    csv, tsv    a header and columns as in ``COLUMNS``: recording, start, end or duration; id, speaker and text
    jsonl       one object a line with the same names
    rttm        ``SPEAKER`` lines: recording, start, duration, speaker; its channel is not used
    kaldi       ``utterance recording start end`` (-1: to the end); ``utt2spk`` and ``text`` beside it are used
    ==========  ===============================================================================================

    Args:
        path: The list, a local path or ``s3://``.
        form: One of ``FORMATS``.

    Raises:
        ManifestError: The list is absent, empty, unreadable or of no known form. A fault found only while reading
            is raised from the iterator.
    """
    path = absolute(path)
    folder, _, name = path.rpartition("/")
    empty = True
    try:
        with open_store(folder or "/").open(name) as file:
            for number, row in _rows(file, path, form):
                empty = False
                yield _segment(number, row)
    except FileNotFoundError as error:
        raise ManifestError(f"there is no segment list {path}") from error
    except (OSError, csv.Error) as error:
        raise ManifestError(f"the segment list {path} cannot be read: {error}") from error
    if empty:
        raise ManifestError(f"the segment list {path} holds no segments")


def _rows(file: IO[bytes], path: str, form: str) -> Iterator[_Row]:
    # Bytes that are not UTF-8 travel as surrogates to the row that holds them, which is then refused alone.
    text: Iterable[str] = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = iter(text)
    first = next((line for line in lines if line.strip()), "")
    if form == "auto":
        form = _form(path, first)
    lines = itertools.chain([first], lines)
    match form:
        case "csv" | "tsv":
            return _table_rows(lines, path, tabs=form == "tsv")
        case "jsonl":
            return ((number, _object(line)) for number, line in enumerate(lines, start=1) if line.strip())
        case "rttm":
            return _rttm_rows(lines, path)
        case _:
            return _kaldi_rows(lines, path)


def _form(path: str, first: str) -> str:
    for suffix, form in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return form
    fields = first.split()
    if first.lstrip().startswith("{"):
        return "jsonl"
    if first.startswith(("SPEAKER ", ";;", "SPKR-INFO ")):
        return "rttm"
    if len(fields) == 4 and all(_number(field) is not None for field in fields[2:]):
        return "kaldi"
    raise ManifestError(f"the form of the segment list {path} cannot be told; give segments_format")


def _table_rows(lines: Iterator[str], path: str, *, tabs: bool) -> Iterator[_Row]:
    # Strict: a quote left open at the end is an error, not one long field that swallows rows.
    reader = csv.reader(
        lines,
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    header = [name.strip() for name in next(reader, [])]
    for field, others in (("recording", ()), ("start", ()), ("end", ("duration",))):
        known = [name for one in (field, *others) for name in COLUMNS[one]]
        if not set(header) & set(known):
            raise ManifestError(
                f"the segment list {path} has no column {', '.join(known)}; "
                f"it has: {printable(', '.join(header))[:300]}"
            )
    for fields in reader:
        if len(fields) == len(header):
            yield reader.line_num, dict(zip(header, fields, strict=True))
        elif fields:
            yield reader.line_num, f"{len(fields)} fields, but the header has {len(header)}"


def _object(line: str) -> Mapping[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def _rttm_rows(lines: Iterator[str], path: str) -> Iterator[_Row]:
    """Source: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A."""
    others = 0
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if fields[0] != "SPEAKER":
            others += 1
        elif len(fields) not in _RTTM_FIELDS:
            yield number, f"{len(fields)} fields, but an RTTM line has {_RTTM_FIELDS[0]} or {_RTTM_FIELDS[1]}"
        else:
            speaker = None if fields[7] in _MISSING else fields[7]
            yield number, {"recording": fields[1], "start": fields[3], "duration": fields[4], "speaker": speaker}
    if others:
        logger.info("%s: %d lines are not SPEAKER lines and were passed over", path, others)


def _kaldi_rows(lines: Iterator[str], path: str) -> Iterator[_Row]:
    speakers, texts = _beside(path, "utt2spk"), _beside(path, "text")
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            yield number, f"{len(fields)} fields, but a line of Kaldi's segments has 4"
            continue
        row: dict[str, Any] = dict(zip(("utterance_id", "recording", "start", "end"), fields, strict=True))
        if _number(fields[3]) == _TO_THE_END:
            row["end"] = math.inf
        yield number, {**row, "speaker": speakers.get(fields[0]), "text": texts.get(fields[0])}


def _beside(path: str, name: str) -> Mapping[str, str]:
    """Read a Kaldi table from the folder of the list; empty where there is none."""
    folder = path.rpartition("/")[0]
    try:
        data = open_store(folder or "/").read(name)
    except FileNotFoundError:
        return {}
    pairs = (line.strip().partition(" ") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    return {key: value.strip() for key, _, value in pairs if value.strip()}


def _segment(number: int, row: Mapping[str, Any] | str) -> ListedSegment:
    segment = ListedSegment(row=number)
    try:
        if isinstance(row, str):
            raise AudioDecodeError(Reason.BAD_ROW, row)
        segment = replace(segment, utterance_id=_text(row, "utterance_id"))
        recording = _text(row, "recording")
        if recording is None:
            raise AudioDecodeError(Reason.BAD_ROW, "it names no recording")
        segment = replace(segment, recording=recording)
        segment = replace(segment, speaker=_text(row, "speaker"), text=_text(row, "text"))
        start, end = _times(row)
        return replace(segment, start_seconds=start, end_seconds=end)
    except AudioDecodeError as error:
        return replace(segment, problem=(str(error.reason), f"row {number} of the segment list: {error.detail}"))


def _times(row: Mapping[str, Any]) -> tuple[float, float | None]:
    """Give start and end, seconds; the end is None where it is that of the recording."""
    start, end, duration = (_seconds(row, field) for field in ("start", "end", "duration"))
    if start is None:
        raise AudioDecodeError(Reason.BAD_SEGMENT, "it has no start")
    if end is None:
        end = None if duration is None else start + duration
    if end is None:
        raise AudioDecodeError(Reason.BAD_SEGMENT, "it has neither an end nor a duration")
    if not 0 <= start < end or math.isinf(start):
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"it starts at {start:g} s and ends at {end:g} s")
    return start, None if math.isinf(end) else end


def _seconds(row: Mapping[str, Any], field: str) -> float | None:
    value = _value(row, field)
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or math.isnan(seconds):
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"{field} must be a number of seconds, got {shown(value)}")
    return seconds


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _value(row: Mapping[str, Any], field: str) -> Any:
    return next((row[name] for name in COLUMNS[field] if row.get(name) not in (None, "")), None)


def _text(row: Mapping[str, Any], field: str) -> str | None:
    value = _value(row, field)
    if value is None:
        return None
    text = str(value)
    # A transcript may have several lines; a name may not.
    one_line = text.replace("\n", " ").replace("\r", " ") if field == "text" else text
    if isinstance(value, (bool, list, dict)) or not storable(one_line):
        raise AudioDecodeError(Reason.BAD_ROW, f"{field} is not one line of UTF-8: {shown(value)}")
    if field in ("utterance_id", "recording"):
        refuse_secret_name(text, field)
    return text
