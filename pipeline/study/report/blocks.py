"""What a report is made of, before it is HTML or Markdown: sections of paragraphs, lists, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """Sentences.

    Attributes:
        text: Of it.
        strong: What stands before the text and is emphasised.
    """

    text: str
    strong: str = ""


@dataclass(frozen=True, kw_only=True)
class Points:
    """A list.

    Attributes:
        points: Of it.
    """

    points: Sequence[Paragraph]


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading within a section.

    Attributes:
        text: Of it.
    """

    text: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table, whose first cells name the rows.

    Attributes:
        caption: What it shows.
        head: Names of the columns.
        rows: Cells.
        words: Columns that are text and no numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture.

    Attributes:
        name: Its file; it is left out where it was not drawn.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Lines to be copied as they are.

    Attributes:
        caption: What they are.
        lines: Of them.
    """

    caption: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Folded:
    """What is shown when it is asked for.

    Attributes:
        summary: What it holds.
        blocks: These.
    """

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        anchor: By which the contents reach it.
        heading: Of it.
        blocks: What it holds.
    """

    anchor: str
    heading: str
    blocks: Sequence["Block"]


Block = Paragraph | Points | Heading | Grid | Shown | Commands | Folded
