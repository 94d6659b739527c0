"""The files of a study's report."""

from pipeline.study.facts import StudyFacts
from pipeline.study.report.markdown import markdown
from pipeline.study.report.page import page
from pipeline.study.report.plots import draw

PAGE, MARKDOWN = "index.html", "report.md"


def report_files(facts: StudyFacts) -> dict[str, bytes]:
    """Give what a caller writes into a folder, by name: the page, the Markdown and its pictures."""
    pictures = draw(facts)
    files = {PAGE: page(facts, pictures), MARKDOWN: markdown(facts, pictures).encode()}
    return files | {picture.name: picture.data for picture in pictures}
