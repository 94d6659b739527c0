"""The report of a study as one HTML file: it opens from disk, asks no network, needs no JavaScript."""

from collections.abc import Sequence

from pipeline.evaluation.html import document, figure, folded, note, table, text, verbatim
from pipeline.evaluation.picture import Picture
from pipeline.study.facts import StudyFacts
from pipeline.study.report.blocks import Block, Commands, Folded, Grid, Heading, Paragraph, Points, Section, Shown
from pipeline.study.report.content import content, title

_STYLE = """
main>ul>li{margin:.5rem 0;overflow-wrap:anywhere}
.wide{margin:.75rem 0}thead th:first-child{text-align:left}
@media screen{td:not(.text){white-space:nowrap}th[scope=row]{overflow-wrap:break-word}}
"""


def page(facts: StudyFacts, pictures: Sequence[Picture]) -> bytes:
    """Write the page.

    Args:
        facts: Of the study.
        pictures: Of ``plots.draw``; none without matplotlib, or where no trial is done.
    """
    sections = content(facts)
    parts = [part for section in sections for part in _section(section, pictures)]
    if facts.levels and not pictures:
        parts.insert(0, "<p>No pictures: matplotlib was not installed; the extra <code>plots</code> has it.</p>")
    links = [(section.anchor, text(section.heading)) for section in sections]
    return document(text(title(facts)), links, parts, style=_STYLE)


def _section(section: Section, pictures: Sequence[Picture]) -> list[str]:
    heading = f'<h2 id="{section.anchor}">{text(section.heading)}</h2>'
    return [heading, *(_block(block, pictures) for block in section.blocks)]


def _block(block: Block, pictures: Sequence[Picture]) -> str:
    match block:
        case Paragraph():
            return f"<p>{_words(block)}</p>" if block.strong else note(block.text)
        case Points():
            return f"<ul>{''.join(f'<li>{_words(point)}</li>' for point in block.points)}</ul>"
        case Heading():
            return f"<h3><bdi>{text(block.text)}</bdi></h3>"
        case Grid():
            return table(block.caption, block.head, block.rows, words=block.words)
        case Shown():
            return figure(pictures, block.name, long=False)
        case Commands():
            return verbatim(block.caption, block.lines)
        case Folded():
            return folded(block.summary, "\n".join(_block(inner, pictures) for inner in block.blocks))


def _words(paragraph: Paragraph) -> str:
    strong = f"<strong>{text(paragraph.strong)}</strong> " if paragraph.strong else ""
    return strong + text(paragraph.text)
