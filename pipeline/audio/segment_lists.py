"""Segment lists: which stretches of which recordings are utterances, as CSV, TSV, JSON lines, RTTM or Kaldi.

A row that cannot be used keeps its place with a problem; a list that cannot be read is a ManifestError.
Memory: one row, of lines that have a limit (``lines.py``), and for Kaldi the ``utt2spk`` and ``text`` beside the list.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from pipeline.audio import fields
from pipeline.audio.candidate import printable, shown
from pipeline.audio.lines import Lines, LongLine, pairs, words
from pipeline.audio.rows import json_row, read_header, table_reader, table_rows
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import absolute, open_store

FORMATS = ("auto", "csv", "tsv", "jsonl", "rttm", "kaldi")
"""The forms of a segment list; ``auto`` goes by the ending of its name, then by its first line."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "recording": ("recording", "recording_id", "uri", "audio_filepath", "path", "audio", "file", "file_name"),
    "start": ("start", "start_seconds", "offset", "offset_seconds"),
    "end": ("end", "end_seconds"),
    "duration": ("duration", "duration_seconds"),
    "utterance_id": ("utterance_id", "id", "segment_id"),
    "channel": ("channel",),
    "speaker": ("speaker", "speaker_id"),
    "text": ("text", "transcript", "transcription", "sentence"),
}
"""The names of a column in the order of preference; other columns are passed over and counted."""

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".rttm": "rttm"}
_RTTM_FIELDS = (9, 10)
_RTTM_CHANNEL = re.compile("[0-9]{1,9}")
# No column of a table is called so: a channel that counts from 1 must not be taken for one that counts from 0.
_RTTM_COLUMN = "channel of RTTM"
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
        channels: The channels in which it is heard, from 0; empty where the list names none.
        rttm_channel: The channel as RTTM writes it, from 1; often said of recordings that have but one.
        speaker: Who speaks.
        text: What is said.
        problem: A ``schema.Reason`` and a sentence, where the row cannot be used.
    """

    row: int
    recording: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    utterance_id: str | None = None
    channels: tuple[int, ...] = ()
    rttm_channel: int | None = None
    speaker: str | None = None
    text: str | None = None
    problem: tuple[str, str] | None = None


def read_segments(path: str, form: str = "auto", *, passed_over: PassedOver) -> Iterator[ListedSegment]:
    """Read a segment list, in its own order.

    ==========  ===============================================================================================
    csv, tsv    a header and columns as in ``COLUMNS``: recording, start, end or duration; channel from 0, id, speaker
                and text
    jsonl       one object a line with the same names
    rttm        ``SPEAKER`` lines: recording, start, duration, speaker; its channel counts from 1 and is a hint
    kaldi       ``utterance recording start end`` (-1: to the end); ``utt2spk`` and ``text`` beside it are used
    ==========  ===============================================================================================

    Args:
        path: The list, a local path or ``s3://``.
        form: One of ``FORMATS``.
        passed_over: Counts columns and lines that are not read, and ids of Kaldi tables that no segment has or that
            come twice.

    Raises:
        ManifestError: The list is absent, empty, unreadable or of no known form. A fault found only while reading
            is raised from the iterator.
    """
    path = absolute(path)
    folder, _, name = path.rpartition("/")
    columns = UnreadColumns({**COLUMNS, _RTTM_COLUMN: (_RTTM_COLUMN,)})
    empty = True
    try:
        with open_store(folder or "/").open(name) as file:
            for number, row in _rows(file, path, form, columns, passed_over):
                empty = False
                if not isinstance(row, str):
                    columns.see(row)
                yield _segment(number, row)
    except FileNotFoundError as error:
        raise ManifestError(f"there is no segment list {path}") from error
    except OSError as error:
        raise ManifestError(f"the segment list {path} cannot be read: {error}") from error
    if empty:
        raise ManifestError(f"the segment list {path} holds no segments")
    columns.count(passed_over, path)


def _rows(file: IO[bytes], path: str, form: str, columns: UnreadColumns, passed_over: PassedOver) -> Iterator[_Row]:
    lines = Lines(file)
    first = lines.peek()
    if form == "auto":
        form = _form(path, first)
    match form:
        case "csv" | "tsv":
            return _table_rows(lines, path, columns, passed_over, tabs=form == "tsv")
        case "jsonl":
            return ((number, json_row(line)) for number, line in lines.numbered())
        case "rttm":
            return _rttm_rows(lines, path, passed_over)
        case _:
            return _kaldi_rows(lines, path, passed_over)


def _form(path: str, first: str) -> str:
    for suffix, form in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return form
    cells = words(first)
    if first.lstrip().startswith("{"):
        return "jsonl"
    if cells and (cells[0] in ("SPEAKER", "SPKR-INFO") or cells[0].startswith(";;")):
        return "rttm"
    if len(cells) == 4 and all(_number(cell) is not None for cell in cells[2:]):
        return "kaldi"
    raise ManifestError(f"the form of the segment list {path} cannot be told; give segments_format")


def _table_rows(
    lines: Lines, path: str, columns: UnreadColumns, passed_over: PassedOver, *, tabs: bool
) -> Iterator[_Row]:
    reader = table_reader(lines, tabs=tabs)
    header = read_header(reader, f"the segment list {path}")
    for field, others in (("recording", ()), ("start", ()), ("end", ("duration",))):
        known = [name for one in (field, *others) for name in COLUMNS[one]]
        if not set(header) & set(known):
            raise ManifestError(
                f"the segment list {path} has no column {', '.join(known)}; "
                f"it has: {printable(', '.join(header))[:300]}"
            )
    columns.see(dict.fromkeys(header))
    for number, row in table_rows(reader, lines, header, passed_over=passed_over, table=path):
        yield number, row if isinstance(row, str) else fields.untyped(row, COLUMNS, passed_over)


def _rttm_rows(lines: Lines, path: str, passed_over: PassedOver) -> Iterator[_Row]:
    """Source: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A."""
    for number, line in lines.numbered():
        if isinstance(line, LongLine):
            yield number, str(line)
            continue
        cells = words(line)
        # A comment says nothing of any recording.
        if not cells or cells[0].startswith(";;"):
            continue
        if cells[0] != "SPEAKER":
            passed_over.add(Kind.UNREAD_LINES, example=f"{path}, line {number}", name=cells[0])
        elif len(cells) not in _RTTM_FIELDS:
            yield number, f"{len(cells)} fields, but an RTTM line has {_RTTM_FIELDS[0]} or {_RTTM_FIELDS[1]}"
        else:
            channel = int(cells[2]) if _RTTM_CHANNEL.fullmatch(cells[2]) else None
            if channel is None and cells[2] not in _MISSING:
                passed_over.add(Kind.UNUSED_CHANNELS, example=f"{path}, line {number}", name=cells[2])
            yield (
                number,
                {
                    "recording": cells[1],
                    _RTTM_COLUMN: channel,
                    "start": cells[3],
                    "duration": cells[4],
                    "speaker": None if cells[7] in _MISSING else cells[7],
                },
            )


def _kaldi_rows(lines: Lines, path: str, passed_over: PassedOver) -> Iterator[_Row]:
    speakers, texts = (_beside(path, name, passed_over) for name in ("utt2spk", "text"))
    met: set[str] = set()
    for number, line in lines.numbered():
        cells = words(line) if isinstance(line, str) else []
        if isinstance(line, LongLine) or len(cells) != 4:
            told = (
                str(line)
                if isinstance(line, LongLine)
                else f"{len(cells)} fields, but a line of Kaldi's segments has 4"
            )
            yield number, told
            continue
        row: dict[str, Any] = dict(zip(("utterance_id", "recording", "start", "end"), cells, strict=True))
        if _number(cells[3]) == _TO_THE_END:
            row["end"] = math.inf
        met.add(cells[0])
        speaker = speakers.get(cells[0])
        if isinstance(speaker, str):
            speaker = fields.untyped({"speaker": speaker}, COLUMNS, passed_over)["speaker"]
        yield number, {**row, "speaker": speaker, "text": texts.get(cells[0])}
    for name, table in (("utt2spk", speakers), ("text", texts)):
        unmet = [key for key in table if key not in met]
        passed_over.add(Kind.UNMATCHED_IDS, len(unmet), example=f"{unmet[0]} of {name}" if unmet else "", name=name)


def _beside(path: str, name: str, passed_over: PassedOver) -> Mapping[str, str | LongLine]:
    """Read a Kaldi table from the folder of the list; empty where there is none."""
    folder = path.rpartition("/")[0]
    try:
        with open_store(folder or "/").open(name) as file:
            return pairs(file, name, passed_over)
    except FileNotFoundError:
        return {}


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
        channels = fields.channels(row, COLUMNS["channel"])
        segment = replace(segment, channels=channels, rttm_channel=row.get(_RTTM_COLUMN))
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
    value = fields.first(row, COLUMNS[field])
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or math.isnan(seconds):
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"{field} must be a number of seconds, got {shown(value)}")
    if not math.isinf(seconds):
        fields.check_seconds(seconds)
    return seconds


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(row: Mapping[str, Any], field: str) -> str | None:
    for name in COLUMNS[field]:
        if isinstance(too_long := row.get(name), LongLine):
            raise AudioDecodeError(Reason.BAD_ROW, f"the table of its {field}, line {too_long.number}: {too_long}")
    return fields.label(row, COLUMNS[field], field)
