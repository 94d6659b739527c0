"""CTM: lines of recording, channel, start, duration, word and what may follow; ``;;`` begins a comment.

Times count from the beginning of the recording, or of the utterance where lines name utterances. A channel is a number
from 1, or a letter from A, and counts only where the utterances of a recording have several.

Source: NIST SCTK, doc/infmts.htm. Memory: the lines of one recording, at most ``MOST_LINES``.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from pipeline.audio.alignments.timed import Called, Interval, Timed, interval, number
from pipeline.audio.candidate import shown
from pipeline.audio.layouts.files import opened
from pipeline.audio.lines import Lines, LongLine, words
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

MOST_LINES = 10_000

_COMMENT = ";;"
_FIELDS = 5
_FIRST_OF_ALTERNATIVES = "<ALT"


class _Line(NamedTuple):
    recording: str
    channel: str
    interval: Interval


def read_ctm(uri: str, tier: str, passed_over: PassedOver) -> Iterator[Timed]:
    """Read a CTM, packed with gzip or not, recording by recording.

    Args:
        uri: The file.
        tier: Nothing: a CTM has one.
        passed_over: Counts nothing: what is no comment is read.

    Raises:
        ManifestError: It is absent, or a line cannot be read.
    """
    with opened(uri) as file:
        for (recording, channel), lines in groupby(_lines(Lines(file), uri), key=lambda line: line[:2]):
            held: list[Interval] = []
            for line in lines:
                held.append(line.interval)
                if len(held) == MOST_LINES:
                    yield _timed(recording, channel, held)
                    held = []
            if held:
                yield _timed(recording, channel, held)


def _timed(recording: str, channel: str, intervals: list[Interval]) -> Timed:
    return Timed(called=(Called(recording),), intervals=intervals, channel=_channel(channel))


def _channel(written: str) -> int | None:
    """Count a channel from 0; one that is written 0 is none that could be told from the first."""
    if written.isascii() and written.isdigit():
        return int(written) - 1 if 0 < len(written) < 10 and int(written) else None
    return ord(written.upper()) - ord("A") if len(written) == 1 and written.isascii() and written.isalpha() else None


def _lines(lines: Lines, uri: str) -> Iterator[_Line]:
    for line_number, line in lines.numbered():
        where = f"line {line_number} of {uri}"
        if isinstance(line, LongLine):
            raise ManifestError(f"{where}: {line}")
        if line.lstrip().startswith(_COMMENT):
            continue
        fields = words(line)
        if len(fields) < _FIELDS:
            raise ManifestError(f"{where}: recording, channel, start, duration and word must stand here")
        recording, channel, begin, lasts, label = fields[:_FIELDS]
        if label.startswith(_FIRST_OF_ALTERNATIVES):
            raise ManifestError(f"{where}: alternatives ({shown(label)}) are not read; keep one of them")
        start = number(begin, where)
        yield _Line(recording, channel, interval(start, start + number(lasts, where), label, where))
