"""A picture of an evaluation, and how text is put into it."""

from dataclasses import dataclass
from typing import Any

from pipeline.cards.text import plain


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot.

    Attributes:
        name: File name.
        alt: What it shows, for who cannot see it.
        data: PNG.
    """

    name: str
    alt: str
    data: bytes


def shown_text(value: Any, most: int = 60) -> str:
    """Give a text that matplotlib shows as it is: a dollar would begin a formula."""
    text = plain(str(value))
    return (text if len(text) <= most else text[: most - 3] + "...").replace("$", r"\$")
