"""Kaldi: a data folder of sorted tables, ``id value`` a line.

    wav.scp     recording path              utt2spk     utterance speaker
    segments    utterance recording start end [channel] (seconds; -1 is the end; may be absent)
    text        utterance words             utt2lang    utterance language

An utterance is called as in ``segments``, or without that table as its recording. Paths are absolute, or begin at the
data folder, where Kaldi begins at the working directory of a recipe. Commands (``sph2pipe ... |``), standard input and
places in archives (``a.ark:1234``) are refused one by one, and never run. Subfolders are not looked into. Source:
https://kaldi-asr.org/doc/data_prep.html (Data preparation). Memory: a line of each table, the names of the folder's
files, and see ``kaldi_tables.py``.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import EXTENSIONS, Candidate, locate, shown
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.kaldi_tables import Column, Line, Recordings, read_table, word
from pipeline.audio.layouts.manifests import pass_over_beside
from pipeline.audio.lines import LongLine, words
from pipeline.audio.walking import require_folder, there_is
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import open_store

_COLUMNS = {"text": "text", "utt2spk": "speaker", "utt2lang": "language"}
# It holds what utt2spk holds, the other way round.
_READ = ("wav.scp", "segments", *_COLUMNS, "spk2utt")
_OFFSET = re.compile(r".*:[0-9]+(?:\[[^\]]*\])?", re.DOTALL)
_TO_THE_END = -1.0


def read_kaldi(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the utterances of the data folder."""
    require_folder(corpus)
    names = set()
    for name in open_store(corpus).names():
        names.add(name)
        if name not in _READ:
            pass_over_beside(name, passed_over)
    if "wav.scp" not in names:
        raise ManifestError(f"{corpus} holds no recordings: it has no wav.scp{there_is(passed_over, corpus)}")
    return _read(corpus, names, passed_over)


def _read(corpus: str, names: set[str], passed_over: PassedOver) -> Iterator[Candidate]:
    columns = [
        Column(corpus, name, label, passed_over, there=name in names) for name, label in sorted(_COLUMNS.items())
    ]
    empty, beside = True, _Beside(corpus, names)
    for candidate in (_segments if "segments" in names else _whole)(corpus, columns, beside):
        empty = False
        yield candidate
    if empty:
        raise ManifestError(f"{corpus} holds no recordings: its tables have no lines")
    for column in columns:
        column.finish()
    beside.count(passed_over)


class _Beside:
    """The recordings directly in the data folder, until ``wav.scp`` names them."""

    def __init__(self, corpus: str, names: set[str]) -> None:
        self._corpus = corpus
        self._left: dict[str, str] = {}
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS):
                self._left[self._place(name) or name] = name

    def name(self, written: str) -> None:
        """Take away what a line of ``wav.scp`` names."""
        if self._left:
            self._left.pop(self._place(written) or "", None)

    def _place(self, written: str) -> str | None:
        try:
            return locate(written, self._corpus)
        except AudioDecodeError:
            return None

    def count(self, passed_over: PassedOver) -> None:
        """Count what is left."""
        for name in self._left.values():
            passed_over.add(Kind.UNLISTED_FILES, example=name)


def _whole(corpus: str, columns: list[Column], beside: _Beside) -> Iterator[Candidate]:
    """Give the recordings of a folder without segments."""
    for line in read_table(corpus, "wav.scp"):
        if isinstance(line[2], str):
            beside.name(line[2])
        yield _candidate(corpus, "wav.scp", line, columns, lambda value: (value, {}))


def _segments(corpus: str, columns: list[Column], beside: _Beside) -> Iterator[Candidate]:
    """Give the segments, and behind them as rejects the recordings of which there is none."""
    recordings = Recordings(corpus, "wav.scp")
    try:

        def find(value: str) -> tuple[str, Mapping[str, Any]]:
            recording, place = _part(value)
            path = recordings.value(recording)
            if path is None:
                raise _bad(f"wav.scp has no recording {shown(recording)}", Reason.BAD_SEGMENT)
            beside.name(path)
            return path, place

        for line in read_table(corpus, "segments"):
            yield _candidate(corpus, "segments", line, columns, find)
        for name, path in recordings.unused():
            beside.name(path)
            yield refused(name, "", "wav.scp", _bad("segments has no segment of this recording", Reason.NO_SEGMENT))
    finally:
        recordings.close()


def _candidate(
    corpus: str,
    table: str,
    line: Line,
    columns: list[Column],
    find: Callable[[str], tuple[str, Mapping[str, Any]]],
) -> Candidate:
    number, key, value = line
    where = f"line {number} of {table}"
    labels: dict[str, str | None] = {}
    problem: AudioDecodeError | None = None
    # Each column is asked for each id, whatever is wrong with the others: so they stay side by side.
    for column in columns:
        try:
            found = column.value(key)
            labels[column.label] = found if column.label == "text" else word(found, column.label)
        except AudioDecodeError as error:
            problem = problem or error
    try:
        if problem is not None:
            raise problem
        if isinstance(value, LongLine):
            raise _bad(str(value))
        path, place = find(value)
        _require_file(path)
    except AudioDecodeError as error:
        return refused(key, "", where, error)
    return entry(key, path, corpus, where, labels=labels, **place)


def _require_file(path: str) -> None:
    """Refuse what Kaldi would run or seek in; a command may hold anything, so its first word alone is shown."""
    if path.startswith("|") or path.endswith("|"):
        raise _bad(f"the recording is a command ({shown(words(path)[0])} ...), which is never run; write its output")
    if path in ("", "-"):
        raise _bad("the recording has no path")
    if _OFFSET.fullmatch(path):
        raise _bad(f"the recording is a place in an archive ({shown(path)}), which is not read; write it to a file")


def _part(value: str) -> tuple[str, Mapping[str, Any]]:
    """Read what follows the id in a line of segments: the recording, and the fields of a candidate that place it there.

    Raises:
        AudioDecodeError: It has too few or too many fields, or times that cannot be.
    """
    cells = words(value)
    if len(cells) not in (3, 4):
        raise _bad(f"{len(cells) + 1} fields, but a line of segments has 4, or 5 with a channel")
    start, end = _seconds(cells[1]), _seconds(cells[2])
    if start < 0 or end != _TO_THE_END and end <= start:
        raise _bad(f"it starts at {start:g} s and ends at {end:g} s", Reason.BAD_SEGMENT)
    place: dict[str, Any] = {"offset_seconds": start}
    if end != _TO_THE_END:
        place["duration_seconds"] = end - start
    if len(cells) == 4:
        if not cells[3].isascii() or not cells[3].isdigit() or len(cells[3]) > 9:
            raise _bad(f"the channel must be a whole number from 0, got {shown(cells[3])}")
        place["channel"] = int(cells[3])
    return cells[0], place


def _seconds(cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _bad(f"a time must be a number of seconds, got {shown(cell)}", Reason.BAD_SEGMENT)
    fields.check_seconds(seconds)
    return seconds


def _bad(detail: str, reason: Reason = Reason.BAD_ROW) -> AudioDecodeError:
    return AudioDecodeError(reason, detail)
