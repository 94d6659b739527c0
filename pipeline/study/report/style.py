"""How the pictures of a study look: what differs in colour also differs in its marker or its hatch.

Source of the colours: Okabe and Ito 2008, Color Universal Design.
"""

from dataclasses import dataclass

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#bbbbbb")
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "++", "||")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
SMALL, USUAL = 7.5, 9.0
"""Sizes of letters, points."""
INK, FAINT = "#222222", "#777777"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one of several things looks.

    Attributes:
        colour: Of it.
        hatch: Of its bars.
        marker: Of its points.
    """

    colour: str
    hatch: str
    marker: str


def style(place: int) -> Style:
    """Give the style of a place; the same colour comes again with another hatch and marker."""
    return Style(
        colour=_COLOURS[place % len(_COLOURS)],
        hatch=_HATCHES[place % len(_HATCHES)],
        marker=_MARKERS[place % len(_MARKERS)],
    )
