"""TextGrids of Praat, as the Montreal Forced Aligner writes them: long and short text form, UTF-8 or UTF-16.

Both forms are one to Praat, and so they are here: a sequence of texts in quotes, numbers and flags that stand free, in
which everything else (``xmin =``, ``intervals [3]:``) is a comment. A file that holds less than it says is refused.

Source: Praat's manual, "TextGrid file formats". Memory: one file.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.audio.alignments.timed import Interval, interval, number
from pipeline.audio.candidate import shown
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

_TOKEN = re.compile(
    r'"(?P<text>[^"]*(?:""[^"]*)*)"(?!\S)|(?P<flag><\w+>)(?!\S)|(?P<number>[-+]?[0-9.][-+.0-9eE]*)(?!\S)|!.*|(?P<other>\S+)'
)
_INTERVALS, _POINTS = "IntervalTier", "TextTier"
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"F\0": "utf-16-le", b"\0F": "utf-16-be"}


class Tier(NamedTuple):
    """A tier: its name, and its intervals where it is asked for."""

    name: str
    intervals: list[Interval]


def read_textgrid(data: bytes, where: str, tier: str, passed_over: PassedOver) -> list[Interval] | None:
    """Read the tiers of one name.

    Args:
        data: The file.
        where: Its name, for messages.
        tier: ``words`` is the tier of that name; where there is none, all that are called ``SPEAKER - words``.
        passed_over: Counts a file without such a tier, and one that goes on behind its last tier.

    Returns:
        The intervals, None where the file has no such tier.

    Raises:
        ManifestError: It is no TextGrid, is cut short, has a tier of points of that name, or an interval ends before
            it begins.
    """
    tokens = _Tokens(_decoded(data, where), where)
    tiers = list(_tiers(tokens, tier))
    if tokens.more():
        passed_over.add(Kind.UNREAD_END, example=where)
    chosen = [found for found in tiers if found.name == tier]
    chosen = chosen or [found for found in tiers if found.name.endswith(f" - {tier}")]
    if not chosen:
        there = ", ".join(found.name for found in tiers) or "none"
        passed_over.add(Kind.WITHOUT_LABEL, example=f"{where} has the tiers: {there}", name=f"tier {tier}")
        return None
    return [each for found in chosen for each in found.intervals]


def _decoded(data: bytes, where: str) -> str:
    try:
        text = data.decode(_MARKS.get(data[:2], "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where} is neither UTF-8 nor UTF-16; save it in one of them") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _Tokens:
    """What stands free in a file, in order."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._found = _TOKEN.finditer(text)
        self._line, self._place = 1, 0

    def where(self) -> str:
        """Name the line of the last token."""
        return f"line {self._line} of {self._where}"

    def next(self, kind: str) -> str:
        """Give the next token, which must be of a kind: ``text``, ``number`` or ``flag``."""
        for match in self._found:
            self._line += self._text.count("\n", self._place, match.start())
            self._place = match.start()
            found = match.lastgroup
            if found == kind:
                return match[kind].replace('""', '"') if kind == "text" else match[kind]
            if found == "other" and match[found].startswith('"'):
                raise ManifestError(f"{self.where()}: a text in quotes does not end, or something is joined to it")
            if found not in (None, "other"):
                raise ManifestError(f"{self.where()}: a {kind} must stand here, got {shown(match[0])}")
        raise ManifestError(
            f"{self._where} ends where a {kind} is missing; it is no TextGrid as text, or was cut short"
        )

    def number(self) -> float:
        """Give the next token, a number."""
        return number(self.next("number"), self.where())

    def count(self) -> int:
        """Give the next token, a count."""
        found = self.number()
        if found < 0 or found != int(found):
            raise ManifestError(f"{self.where()}: a count must stand here, got {found:g}")
        return int(found)

    def more(self) -> bool:
        """Say whether anything that is no comment follows."""
        return any(match.lastgroup not in (None, "other") for match in self._found)


def _tiers(tokens: _Tokens, wanted: str) -> Iterator[Tier]:
    kinds = tokens.next("text"), tokens.next("text")
    if kinds not in (("ooTextFile", "TextGrid"), ("ooTextFile short", "TextGrid")):
        raise ManifestError(f"{tokens.where()}: a TextGrid must begin here, got {shown(' '.join(kinds))}")
    start = tokens.number()
    if start != 0:
        # Whether a recording of that name was cut with it, or keeps its own beginning, nothing tells.
        raise ManifestError(f"{tokens.where()}: it begins at {start:g} s; shift its times to zero (Praat: Shift times)")
    tokens.number()
    if tokens.next("flag") != "<exists>":
        return
    for _ in range(tokens.count()):
        kind, name = tokens.next("text"), tokens.next("text").strip()
        asked = name == wanted or name.endswith(f" - {wanted}")
        if kind not in (_INTERVALS, _POINTS) or (kind == _POINTS and asked):
            told = "holds points, which have no length" if kind == _POINTS else f"is of the unknown kind {shown(kind)}"
            raise ManifestError(f"{tokens.where()}: the tier {shown(name)} {told}; name a tier of intervals")
        tokens.number()
        tokens.number()
        found = []
        for _ in range(tokens.count()):
            begin = tokens.number()
            end = tokens.number() if kind == _INTERVALS else begin
            label = tokens.next("text")
            if asked:
                found.append(interval(begin, end, label, tokens.where()))
        yield Tier(name, found)
