"""What a reader of word and phone times gives: intervals of one recording or utterance, and what it is called there."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.audio.candidate import printable, shown, storable
from pipeline.errors import ManifestError


class Interval(NamedTuple):
    """A stretch of speech and its label, as a word or a phone.

    Attributes:
        start: Seconds.
        end: Seconds, no less than ``start``.
        label: One line, without blanks around it.
    """

    start: float
    end: float
    label: str


class Called(NamedTuple):
    """A name of an utterance or of a recording.

    Attributes:
        name: An utterance_id, what one encodes, or the path of a recording without its extension, or the end of one.
        zero: When that utterance or recording begins, seconds on the clock of the intervals.
        recording: Whether a recording is meant, also where an utterance that is a part of it has the same name.
    """

    name: str
    zero: float = 0.0
    recording: bool = False


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Intervals that lie on one clock.

    Attributes:
        called: Names in the order of preference.
        intervals: In any order.
        channel: In which channel they are heard, from 0; None where nothing tells.
        file: The file that says all of what it names, so that no other may; None for a part of a table.
    """

    called: tuple[Called, ...]
    intervals: list[Interval]
    channel: int | None = None
    file: str | None = None


def number(value: object, where: str) -> float:
    """Read a time.

    Args:
        value: A number, or how one is written.
        where: File and line.

    Raises:
        ManifestError: It is none.
    """
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ManifestError(f"{where}: a time must be a number of seconds or samples, got {shown(value)}")
    return found


def interval(start: float, end: float, label: str, where: str) -> Interval:
    """Make an interval; blanks and line ends within its label become one blank.

    Args:
        start: Seconds.
        end: Seconds.
        label: The label as written.
        where: File and line.

    Raises:
        ManifestError: It ends before it begins, or its label is not UTF-8 text.
    """
    if end < start:
        told = f"{shown(label)} from {start:.10g} to {end:.10g} s"
        raise ManifestError(f"{where}: the interval of {told} ends before it begins; mend its times")
    label = " ".join(label.split())
    if not storable(label):
        raise ManifestError(f"{where}: the label {printable(label)[:80]!r} is not UTF-8 text")
    return Interval(start, end, label)
