"""Corpora whose recordings are named by a table: what is said of one without it."""

from pipeline.audio.candidate import EXTENSIONS
from pipeline.audio.walking import pass_over_file, there_is, walk
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def without_table(corpus: str, layout: str, table: str, passed_over: PassedOver) -> ManifestError:
    """Say of a folder that lacks the table of its layout whether it holds recordings, and what else.

    Args:
        corpus: The folder.
        layout: Name of the layout.
        table: Where the table should be.
        passed_over: Counts what is met in the search for a recording.

    Returns:
        The error to raise.

    Raises:
        ManifestError: A folder cannot be read.
    """
    for path in walk(corpus, passed_over):
        if path.lower().endswith(EXTENSIONS):
            return ManifestError(f"{corpus} has no {table}, so it is not in the layout {layout}; use the layout folder")
        pass_over_file(path, passed_over)
    return ManifestError(f"{corpus} holds no recordings and no {table}{there_is(passed_over)}")
