"""What a command line asks of an estimate: flags that every job has beside those of its settings."""

import re
from collections.abc import Sequence
from typing import Any

from pipeline.errors import SettingsError
from pipeline.redaction import redact

ESTIMATE = "--estimate"
_WISHES = {
    "--estimate-hours": "hours",
    "--estimate-days": "days",
    "--estimate-price": "price",
    "--estimate-speed": "speed",
}
_FLAG = re.compile("--[A-Za-z]")


def take_wishes(given: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """Take what is asked of an estimate out of a command line.

    Args:
        given: Flags and their values.

    Returns:
        The other flags, and the fields of ``SizingWishes``; None where no estimate is asked for.

    Raises:
        SettingsError: A wish is no number, or none is asked for.
    """
    flags: list[str] = []
    words: dict[str, list[str]] = {}
    values, asked = flags, False
    for word in given:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if word == ESTIMATE:
            asked, values = True, flags
        elif name in _WISHES:
            values = words.setdefault(name, [])
            values += [value] if equals else []
        else:
            values = flags if _FLAG.match(word) else values
            values.append(word)
    if words and not asked:
        raise SettingsError(f"{next(iter(words))} says what an estimate is to size up; add {ESTIMATE}")
    wishes: dict[str, Any] = {_WISHES[name]: _numbers(name, held) for name, held in words.items()}
    return flags, wishes if asked else None


def _numbers(name: str, words: Sequence[str]) -> Any:
    many = name == "--estimate-hours"
    if not words or (len(words) > 1 and not many):
        raise SettingsError(f"{name} takes {'one or more numbers' if many else 'one number'}, got {len(words)}")
    try:
        found = tuple(map(float, words))
    except ValueError:
        raise SettingsError(f"{name} takes numbers, got {redact(' '.join(words))!r}") from None
    return found if many else found[0]
