"""What a cell of a table says, however it was stored: a label, or the channels of a recording.

Tables pass through programs that know no missing whole number: pandas makes a column of them float, and writes what is
missing as NaN. So 1089.0 is the label ``1089``, and NaN is none. A float that is no whole number stays as Python
writes it, and so does one from 2^53 on, whose last digits are not those of any number that was meant.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.audio.candidate import refuse_secret_name, shown, storable
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason

MAX_LABEL = 4 << 20
"""Most characters of a label."""

MAX_SECONDS = 1e9
"""Most seconds of a time in a recording, 31 years: no recording has more, and samples are counted in whole numbers."""

SPELT_MISSING = ("nan", "NaN", "None", "null", "NULL", "<NA>")
"""What tables without types hold in place of nothing, where a program wrote its own word for it."""

_UNTYPED_NAMES = ("speaker", "emotion", "split")
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")
_EXACT = 2**53
_MAX_CHANNEL = 2**31 - 1
_MAX_CHANNELS = 1024
_MAX_DIGITS = 40


def parse_json(text: str) -> Any:
    """Parse JSON so that whole numbers written as floats keep their digits.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    return _DECODER.decode(text)


def _json_number(written: str) -> float | Decimal:
    number = float(written)
    return number if abs(number) < _EXACT else Decimal(written)


_DECODER = json.JSONDecoder(parse_float=_json_number)


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Give the first of some columns that holds something; None where none does."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def label(row: Mapping[str, Any], names: Sequence[str], field: str) -> str | None:
    """Read a label from the first of some columns that has one.

    Args:
        row: Values by column.
        names: The columns, in the order of preference.
        field: What the label is; ``text`` may have several lines.

    Raises:
        AudioDecodeError: BAD_ROW for what is no text, nor a number.
    """
    for name in names:
        value = row.get(name)
        # Nearly every label is a text.
        if (type(value) is str and value) or not is_missing(value):
            break
    else:
        return None
    text = value if type(value) is str else spelt(value)
    if text is None:
        raise _bad(f"{field} must be text, got {shown(value)}")
    if len(text) > MAX_LABEL:
        raise _bad(f"{field} has {len(text):,} characters; at most {MAX_LABEL:,} are read")
    # A transcript may have several lines; a name or path may not.
    if not storable(text) and not (field == "text" and storable(text.replace("\n", " ").replace("\r", " "))):
        raise _bad(f"{field} is not UTF-8 text without control characters: {shown(text)}")
    if field in ("utterance_id", "recording"):
        refuse_secret_name(text, field)
    return text


def check_seconds(*times: float) -> None:
    """Refuse times that lie in no recording.

    Raises:
        AudioDecodeError: BAD_SEGMENT for NaN, infinity, or more than ``MAX_SECONDS`` before or after the begin.
    """
    for seconds in times:
        if not abs(seconds) <= MAX_SECONDS:
            raise AudioDecodeError(
                Reason.BAD_SEGMENT, f"{seconds:g} s is no time in a recording; at most {MAX_SECONDS:g} s are read"
            )


def is_missing(value: Any) -> bool:
    """Say whether a cell holds no label: null, empty, or NaN."""
    return value is None or value == "" or (isinstance(value, float | Decimal) and math.isnan(value))


def spelt(value: Any) -> str | None:
    """Spell a text or number as a label; None for anything else, a truth value among it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else str(value)
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _MAX_DIGITS:
        return str(int(value)) if value == value.to_integral_value() else str(value)
    return str(value)


def untyped(row: dict[str, str], columns: Mapping[str, tuple[str, ...]], passed_over: PassedOver) -> dict[str, str]:
    """Read the names of a row whose table has no types: CSV.

    A name that is spelt as a whole float loses its ``.0``; one that is spelt as nothing becomes empty and is counted.
    Transcripts and languages stay as they are: ``null`` is a German word, and ``nan`` the code of Min Nan.

    Args:
        row: Cells by column; changed in place.
        columns: Names of columns by field.
        passed_over: Counts what is taken for nothing.
    """
    for field in _UNTYPED_NAMES:
        for column in columns.get(field, ()):
            cell = row.get(column)
            if cell in SPELT_MISSING:
                passed_over.add(Kind.SPELT_MISSING, example=f"{column} {cell}", name=cell)
                row[column] = ""
            elif cell and (whole := _WHOLE_FLOAT.fullmatch(cell)):
                row[column] = whole[1]
    return row


def channels(row: Mapping[str, Any], names: Sequence[str]) -> tuple[int, ...]:
    """Read which channels are meant: a number from 0, or several in a list.

    Returns:
        The channels, rising; none where the row names none.

    Raises:
        AudioDecodeError: BAD_ROW for what is no channel.
    """
    value = first(row, names)
    if value is None:
        return ()
    found = {_channel(each) for each in (value if isinstance(value, list) else [value])}
    if len(found) > _MAX_CHANNELS:
        raise _bad(f"channel names {len(found)} channels; at most {_MAX_CHANNELS} are read")
    return tuple(sorted(found))


def _channel(value: Any) -> int:
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= _MAX_CHANNEL or number != int(number):
        raise _bad(f"channel must be a whole number from 0, got {shown(value)}")
    return int(number)


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)
