"""Corpora whose tables name their recordings: which folders hold recordings, and which recordings no table names.

The folder is walked twice: first for its tables and folders, and when the tables have been read for the rest. So a
corpus of which only parts were fetched does not become one reject for each recording of the others. Memory: 8 bytes for
each recording that a table names, and the names of the folders (S3: all names).
"""

import posixpath
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.audio.candidate import EXTENSIONS, Candidate
from pipeline.audio.walking import pass_over_file, walk
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

Folders = Callable[[str], Iterable[str]]
"""Names, from the path of a recording below the corpus, the parts of the corpus that it is of, such as its folder: what
is fetched as a whole. There are far fewer of them than of recordings."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What of a corpus lies there.

    Attributes:
        tables: Paths of its tables below it, in the order of a walk.
        folders: The parts of which there is a recording.
        folders_of: Names the parts that a recording is of.
    """

    tables: tuple[str, ...]
    folders: frozenset[str]
    folders_of: Folders

    def lacks(self, path: str) -> bool:
        """Say whether a path below the corpus is of a part of which there is no recording."""
        if path.startswith("/") or "://" in path:
            return False
        return any(folder not in self.folders for folder in self.folders_of(posixpath.normpath(path)))


class NamedFiles:
    """Which recordings tables have named, as hashes of their paths."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted = True

    def add(self, path: str) -> None:
        """Take down a path below the corpus, as a table has it."""
        number = hash(posixpath.normpath(path))
        if not self._hashes or self._hashes[-1] != number:
            self._hashes.append(number)
            self._sorted = False

    def __contains__(self, path: str) -> bool:
        if not self._hashes:
            return False
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        if not self._sorted:
            # In place: a copy would be another 8 bytes each.
            hashes.sort()
            self._sorted = True
        number = hash(path)
        place = int(np.searchsorted(hashes, number))
        return place < len(hashes) and int(hashes[place]) == number


def survey(corpus: str, is_table: Callable[[str], bool], folders_of: Folders) -> Ground:
    """Look for the tables and the recordings of a corpus; nothing is counted.

    Args:
        corpus: The folder, or an S3 prefix.
        is_table: Says of a path below it whether it is a table of the layout.
        folders_of: Names the parts that a recording is of.
    """
    tables: list[str] = []
    folders: set[str] = set()
    for path in walk(corpus, PassedOver()):
        if path.lower().endswith(EXTENSIONS):
            folders.update(folders_of(path))
        elif is_table(path):
            tables.append(path)
    return Ground(tables=tuple(tables), folders=frozenset(folders), folders_of=folders_of)


def unnamed(corpus: str, ground: Ground, named: NamedFiles, passed_over: PassedOver) -> Iterator[str]:
    """Give the recordings that no table names, and count files that are neither recordings nor tables.

    Args:
        corpus: The folder, or an S3 prefix.
        ground: What ``survey`` has found.
        named: The recordings that tables name.
        passed_over: Counts the other files.
    """
    tables = set(ground.tables)
    for path in walk(corpus, passed_over):
        if path.lower().endswith(EXTENSIONS):
            if path not in named:
                yield path
        elif path not in tables:
            pass_over_file(path, passed_over)


def count_unnamed(corpus: str, ground: Ground, named: NamedFiles, passed_over: PassedOver) -> None:
    """Count the recordings that no table names, and all that ``unnamed`` counts."""
    for path in unnamed(corpus, ground, named, passed_over):
        passed_over.add(Kind.UNLISTED_FILES, example=path)


def usable(candidates: Iterable[Candidate], refusal: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Pass candidates on, and refuse a corpus of which none can be used.

    Args:
        candidates: All of the corpus.
        refusal: What is wrong with a corpus without any, and what to do.
        passed_over: Has counted links to folders, behind which the recordings may be.

    Raises:
        ManifestError: None is without a problem; the first problem is told.
    """
    problem, found = None, False
    for candidate in candidates:
        found |= candidate.problem is None
        problem = problem or candidate.problem
        yield candidate
    if not found:
        links = dict(passed_over.lines()).get(f"passed over: {Kind.LINKED_FOLDERS}")
        told = f"; links to folders are not followed: {links}" if links else ""
        raise ManifestError(refusal + told + (f"; the first entry cannot be used: {problem[1]}" if problem else ""))
