"""Folders of very many recordings, which tables name: listed without being held in memory or put in order.

A disk gives the names of a folder one by one. S3 lists all names of a corpus at once, which are then held, as in a
walk.
"""

import bisect
import os
from collections.abc import Iterator
from typing import Protocol

from pipeline.audio.candidate import printable
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import join, open_store


class Clips(Protocol):
    """The files of a corpus, those in folders of clips apart. Paths are below the corpus."""

    def outside(self) -> Iterator[str]:
        """Give the files outside of such folders, and each such folder with a slash at its end, in order."""

    def inside(self, folder: str) -> Iterator[str]:
        """Give the files below such a folder, in any order."""


def find_clips(corpus: str, name: str, passed_over: PassedOver) -> Clips:
    """Find the folders of clips of a corpus.

    Args:
        corpus: A folder that is there, or an S3 prefix.
        name: What folders of clips are called.
        passed_over: Counts links to folders, which are not followed.
    """
    return _OnS3(corpus, name) if corpus.startswith("s3://") else _OnDisk(corpus, name, passed_over)


class _OnDisk:
    def __init__(self, corpus: str, name: str, passed_over: PassedOver) -> None:
        self._corpus, self._name, self._passed_over = corpus, name, passed_over

    def outside(self) -> Iterator[str]:
        return self._below("")

    def inside(self, folder: str) -> Iterator[str]:
        pending = [folder]
        while pending:
            below = pending.pop()
            with _scanned(join(self._corpus, below)) as entries:
                for entry in entries:
                    path = below + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{path}/")
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        # An example of one link would depend on the order in which a disk lists them.
                        self._passed_over.add(Kind.LINKED_FOLDERS, example=folder)
                    else:
                        yield path

    def _below(self, folder: str) -> Iterator[str]:
        with _scanned(join(self._corpus, folder)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = folder + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from [f"{path}/"] if entry.name == self._name else self._below(f"{path}/")
            elif entry.is_symlink() and os.path.isdir(entry.path):
                self._passed_over.add(Kind.LINKED_FOLDERS, example=path)
            else:
                yield path


class _OnS3:
    def __init__(self, corpus: str, name: str) -> None:
        self._names, self._name = open_store(corpus).tree(""), name

    def outside(self) -> Iterator[str]:
        folders: set[str] = set()
        found = []
        for path in self._names:
            parts = path.split("/")
            if self._name not in parts[:-1]:
                found.append(path)
            else:
                folders.add("/".join([*parts[: parts.index(self._name)], self._name, ""]))
        return iter(sorted([*found, *folders], key=lambda path: path.split("/")))

    def inside(self, folder: str) -> Iterator[str]:
        for place in range(bisect.bisect_left(self._names, folder), len(self._names)):
            if not self._names[place].startswith(folder):
                return
            yield self._names[place]


def _scanned(folder: str) -> "os._ScandirIterator[str]":
    try:
        return os.scandir(folder)
    except OSError as error:
        raise ManifestError(
            f"the folder {printable(folder)} cannot be read ({error.strerror}); make it readable or move it away"
        ) from error
