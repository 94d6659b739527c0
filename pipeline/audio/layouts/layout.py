"""What a layout is: how the recordings and labels of a corpus lie, and who reads them into candidates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.audio.candidate import Candidate
from pipeline.passed_over import PassedOver

Reader = Callable[[str, PassedOver], Iterator[Candidate]]
"""Reads a corpus, an absolute path or ``s3://`` URI, in an order that depends on its content only. It counts what it
does not read, and raises ManifestError for a corpus that is absent, empty, unreadable or of another layout; an entry
that cannot be used becomes a candidate with a problem."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout.

    Attributes:
        name: Its name on the command line.
        read: Its reader.
        folder: Gives the folder under which audio must lie; that of the file where the corpus is one.
    """

    name: str
    read: Reader
    folder: Callable[[str], str] = lambda corpus: corpus


def folder_of_file(corpus: str) -> str:
    """Give the folder of a corpus that is a file."""
    return corpus.rpartition("/")[0] or "/"
