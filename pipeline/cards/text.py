"""Text of data inside Markdown: shown as it is, never markup, and without characters that cannot be seen."""

import unicodedata
from collections.abc import Mapping
from typing import Any

MOST_CHARACTERS = 200
"""A longer text is cut, where nothing else is said."""

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKUP = str.maketrans(
    {
        **{character: "\\" + character for character in "\\`*_{}[]()#!~$"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        # Entities where a backslash would not do: inside tables, and in addresses, which become links by themselves.
        "|": "&#124;",
        "@": "&#64;",
    }
)


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """Give a text on one line: controls, line breaks, overrides of direction and the like become spaces.

    Args:
        text: It.
        most: A longer one is cut.
    """
    seen = "".join(" " if unicodedata.category(character) in _HIDDEN else character for character in text)
    shown = " ".join(seen.split())
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def escaped(value: Any, most: int = MOST_CHARACTERS) -> str:
    """Give a value as Markdown that shows it: a text, a number, or these in mappings and lists, ``none`` for None.

    Args:
        value: It.
        most: A longer text is cut.
    """
    text = plain(_spelled(value), most).translate(_MARKUP)
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_spelled(found)}" for name, found in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_spelled(found) for found in value)
    return str(value)
