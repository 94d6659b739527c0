"""Corpora that are folders of recordings: walked file by file, each labelled by its path and what lies beside it.

A recording whose name does not fit the layout keeps its place without labels and is counted, as is whatever else is
there. Links to folders are not followed, links to files are listed. Memory: one folder (S3: all names).
"""

from collections.abc import Callable, Iterable, Iterator

from pipeline.audio.candidate import EXTENSIONS, Candidate, printable, stem, storable
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import pass_over_file, require_folder, there_is, walk
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join

Labeller = Callable[[Candidate, str], Candidate | Iterable[Candidate] | None]
"""Fills the labels of a candidate from its path below the corpus, or cuts it into several; None where the path does not
fit the layout."""


def read_walked(
    corpus: str,
    layout: str,
    label: Labeller,
    passed_over: PassedOver,
    used: Callable[[str], bool] = lambda _: False,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Iterator[Candidate]:
    """Walk a folder.

    Args:
        corpus: The folder, or an S3 prefix.
        layout: Name of the layout, for messages.
        label: Labels a recording.
        passed_over: Counts what is not read.
        used: Says of a file that is no recording whether labels are read from it.
        wanted: Says of a recording whether the layout is about it.

    Raises:
        ManifestError: There is no such folder, it holds no recordings, or none that fits the layout.
    """
    require_folder(corpus)
    return _read(corpus, layout, label, passed_over, used, wanted)


def _read(
    corpus: str,
    layout: str,
    label: Labeller,
    passed_over: PassedOver,
    used: Callable[[str], bool],
    wanted: Callable[[str], bool],
) -> Iterator[Candidate]:
    found = unlabelled = 0
    for path in walk(corpus, passed_over):
        if not path.lower().endswith(EXTENSIONS):
            if not used(path):
                pass_over_file(path, passed_over)
            continue
        if not wanted(path):
            continue
        found += 1
        candidate = plain(corpus, path)
        labelled = candidate if candidate.problem else label(candidate, path)
        if labelled is None:
            unlabelled += 1
            passed_over.add(Kind.UNFIT_NAMES, example=path)
            yield candidate
        elif isinstance(labelled, Candidate):
            yield labelled
        else:
            yield from labelled
    if not found:
        raise ManifestError(f"{corpus} holds no recordings ({', '.join(EXTENSIONS)}){there_is(passed_over)}")
    if unlabelled == found and layout != "folder":
        raise ManifestError(
            f"none of the {found} recordings under {corpus} is named as in the layout {layout}; use the layout folder"
        )


def plain(corpus: str, path: str) -> Candidate:
    """Make a candidate of which only the path is known."""
    uri = join(corpus, path)
    problem = None
    if not storable(uri):
        problem = (Reason.BAD_ROW.value, "the path has a line break, a NUL or bytes that are not UTF-8; rename it")
    return Candidate(utterance_id=encode_id(stem(path)), uri=printable(uri), problem=problem)
