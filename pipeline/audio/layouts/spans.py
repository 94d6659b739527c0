"""The stretch of a recording that a table gives as two times, as a candidate has it: a begin and a length."""

import math
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import shown
from pipeline.errors import AudioDecodeError
from pipeline.schema import Reason


def span(begin: Any, end: Any) -> dict[str, float]:
    """Read the times between which a segment lies.

    Args:
        begin: Seconds, a number or its spelling.
        end: The same.

    Returns:
        ``offset_seconds`` and ``duration_seconds``.

    Raises:
        AudioDecodeError: BAD_ROW for what is no number, BAD_SEGMENT for times that are not in order,
            or past any recording.
    """
    start, stop = _seconds(begin), _seconds(end)
    if not 0 <= start < stop:
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"it begins at {start:g} s and ends at {stop:g} s")
    fields.check_seconds(stop)
    # Differences of decimals have tails: 783.13 - 780.31 is 2.8199999999999363.
    return {"offset_seconds": start, "duration_seconds": round(stop - start, 9)}


def _seconds(value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise AudioDecodeError(Reason.BAD_ROW, f"a time must be a number of seconds, got {shown(value)}")
    return seconds
