"""Manifests of toolkits: a file of JSON lines, several by a pattern in braces, or those of a folder."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.audio.candidate import EXTENSIONS, printable
from pipeline.audio.layouts.files import opened
from pipeline.audio.lines import Lines
from pipeline.audio.rows import json_row
from pipeline.audio.walking import expand, pass_over_file, require_folder, there_is
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver
from pipeline.store.storage import join, open_store

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""How files of JSON lines end."""

_MOST_FILES = 1_000_000


def is_folder(corpus: str) -> bool:
    """Say whether a corpus is meant as a folder: no pattern, and no file of JSON lines."""
    return os.path.isdir(corpus) or "{" not in corpus and not corpus.lower().endswith(ENDINGS)


def manifest_folder(corpus: str) -> str:
    """Name the folder of a corpus of manifests; that of the first braces where it is a pattern."""
    return corpus if is_folder(corpus) else corpus.partition("{")[0].rpartition("/")[0] or "/"


def require_manifests(corpus: str, layout: str) -> None:
    """Refuse a corpus that is absent, or a file of another kind.

    Raises:
        ManifestError: It is.
    """
    if not is_folder(corpus):
        return
    if os.path.isfile(corpus):
        raise ManifestError(
            f"{corpus} is a file that does not end in {', '.join(ENDINGS)}, as a manifest of the layout {layout} does"
        )
    require_folder(corpus)


def expanded(pattern: str) -> list[str]:
    """Give the files that a pattern in braces names.

    Raises:
        ManifestError: They are too many, or end otherwise than JSON lines do.
    """
    files = list(itertools.islice(expand(pattern), _MOST_FILES + 1))
    if len(files) > _MOST_FILES:
        raise ManifestError(f"{pattern} names more than {_MOST_FILES} files; split the corpus")
    for file in files:
        if not file.lower().endswith(ENDINGS):
            raise ManifestError(f"{printable(file)} does not end in {', '.join(ENDINGS)}, as a manifest does")
    return files


def files_of_folder(corpus: str, wanted: Callable[[str], bool], kind: str, passed_over: PassedOver) -> list[str]:
    """Name the manifests directly in a folder, in the order of their names.

    Args:
        corpus: The folder.
        wanted: Says of a file's name whether it is a manifest.
        kind: What a manifest is called, for the message.
        passed_over: Counts the other files.

    Raises:
        ManifestError: It has none.
    """
    found = []
    for name in open_store(corpus).names():
        if wanted(name):
            found.append(join(corpus, name))
        else:
            pass_over_beside(name, passed_over)
    if not found:
        raise ManifestError(f"{corpus} holds no recordings: no file is called {kind}{there_is(passed_over, corpus)}")
    return found


def pass_over_beside(name: str, passed_over: PassedOver) -> None:
    """Count a file beside tables that is not read; audio is not counted, because a table may name it."""
    if not name.lower().endswith(EXTENSIONS):
        pass_over_file(name, passed_over)


def numbered_rows(uri: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Give the lines of a file of JSON lines with their numbers: an object, or what is wrong with the line.

    Raises:
        ManifestError: The file is absent or unreadable, or holds one JSON array.
    """
    with opened(uri) as file:
        # Between the words of JSON a carriage return is a blank.
        lines = Lines(file, returns=False)
        if lines.peek().lstrip().startswith("["):
            raise ManifestError(f"{uri} must hold one JSON object a line, not an array")
        for number, line in lines.numbered():
            yield number, json_row(line)
