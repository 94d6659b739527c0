"""The report of a study as Markdown, with the pictures beside it."""

import re
from collections.abc import Sequence

from pipeline.cards.markdown import page, table
from pipeline.cards.text import escaped, plain
from pipeline.evaluation.picture import Picture
from pipeline.study.facts import StudyFacts
from pipeline.study.report.blocks import Block, Commands, Folded, Grid, Heading, Paragraph, Points, Section, Shown
from pipeline.study.report.content import content, title

_MOST_CHARACTERS = 4_000
"""Of a text; a longer one is cut, as in the page."""


def markdown(facts: StudyFacts, pictures: Sequence[Picture]) -> str:
    """Write the report.

    Args:
        facts: Of the study.
        pictures: Of ``plots.draw``, which lie beside it; none without matplotlib, or where no trial is
            done.
    """
    parts = [f"# {_text(title(facts))}"]
    if facts.levels and not pictures:
        parts.append("No pictures: matplotlib was not installed; the extra `plots` has it.")
    return page([*parts, *(part for section in content(facts) for part in _section(section, pictures))])


def _section(section: Section, pictures: Sequence[Picture]) -> list[str]:
    return [f"## {_text(section.heading)}", *(_block(block, pictures) for block in section.blocks)]


def _block(block: Block, pictures: Sequence[Picture]) -> str:
    match block:
        case Paragraph():
            return _words(block)
        case Points():
            return "\n".join(f"- {_words(point)}" for point in block.points)
        case Heading():
            return f"### {_text(block.text)}"
        case Grid():
            rows = [[_text(cell) for cell in row] for row in block.rows]
            return f"{_text(block.caption)}:\n\n{table([_text(cell) for cell in block.head], rows)}"
        case Shown():
            return "\n".join(f"![{_text(each.alt)}]({each.name})" for each in pictures if each.name == block.name)
        case Commands():
            return f"{_text(block.caption)}:\n\n{_fenced(block.lines)}"
        case Folded():
            return "\n\n".join([f"**{_text(block.summary)}**", *(_block(inner, pictures) for inner in block.blocks)])


def _words(paragraph: Paragraph) -> str:
    return f"**{_text(paragraph.strong)}** {_text(paragraph.text)}" if paragraph.strong else _text(paragraph.text)


def _text(value: str) -> str:
    return escaped(value, _MOST_CHARACTERS)


def _fenced(lines: Sequence[str]) -> str:
    """Write lines as code, within more backticks than any of them has."""
    shown = [plain(line, _MOST_CHARACTERS) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *shown, fence])
