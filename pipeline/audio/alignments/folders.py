"""Folders of times, a file for each recording or utterance, named as it is.

Memory: the names of all files, and the contents of ``_FILES`` of them.
"""

import itertools
import os
from collections.abc import Callable, Iterator

from pipeline.audio.alignments.timed import Called, Interval, Timed
from pipeline.audio.alignments.utterances import Utterances
from pipeline.audio.candidate import EXTENSIONS, printable
from pipeline.audio.walking import pass_over_file, there_is, walk
from pipeline.errors import ManifestError, SettingsError
from pipeline.passed_over import PassedOver
from pipeline.store.storage import join, open_store

FileReader = Callable[[bytes, str, str, PassedOver], list[Interval] | None]
"""Reads a file: its content, its name, the tier, what counts; None where the file has no such tier."""

_FILES = 64


def read_folder(
    folder: str,
    ending: str,
    beside: tuple[str, ...],
    read: FileReader,
    tier: str,
    utterances: Utterances,
    passed_over: PassedOver,
) -> Iterator[Timed]:
    """Read the files of a folder in their order.

    As many leading folders of their paths are left out as it takes for any of them to name an utterance or recording.

    Args:
        folder: The folder, or an S3 prefix.
        ending: How the files end, in lower case.
        beside: How files end that lie beside them, and are no loss; so do recordings.
        read: Reads one.
        tier: Which tier.
        utterances: Those that they are to name.
        passed_over: Counts other files.

    Raises:
        ManifestError: There is no such folder, it has no such file, or one cannot be read.
        SettingsError: None is called as an utterance or a recording.
    """
    paths = list(_paths(folder, ending, beside, passed_over))
    if not paths:
        raise ManifestError(f"{folder} holds no file that ends in {ending}{there_is(passed_over)}")
    # Some editions of a corpus are in upper case, some in lower, and their ids in upper.
    named = [tuple(dict.fromkeys((path[: -len(ending)], path[: -len(ending)].upper()))) for path in paths]
    leading = utterances.leading_folders([name for names in named for name in names])
    if leading is None:
        raise SettingsError(no_match(folder, named[0][0], utterances))
    store = open_store(folder)
    rest = zip(paths, named, strict=True)
    while batch := list(itertools.islice(rest, _FILES)):
        try:
            contents = store.read_many([path for path, _ in batch])
        except OSError as error:
            raise ManifestError(f"a file of {folder} cannot be read: {error}") from error
        for (path, names), data in zip(batch, contents, strict=True):
            intervals = read(data, printable(join(folder, path)), tier, passed_over)
            if intervals is not None:
                called = tuple(Called("/".join(name.split("/")[leading:])) for name in names)
                yield Timed(called=called, intervals=intervals, file=path)


def _paths(folder: str, ending: str, beside: tuple[str, ...], passed_over: PassedOver) -> Iterator[str]:
    if not folder.startswith("s3://") and not os.path.isdir(folder):
        what = "is a file" if os.path.exists(folder) else "is not there"
        raise ManifestError(f"{folder} {what}, where a folder of files that end in {ending} is needed")
    for path in walk(folder, passed_over):
        lower = path.lower()
        if lower.rpartition("/")[2].startswith(".") or not lower.endswith((ending, *beside, *EXTENSIONS)):
            pass_over_file(path, passed_over)
        elif lower.endswith(ending):
            yield path


def no_match(uri: str, name: str, utterances: Utterances) -> str:
    """Say that no times name an utterance, with a name of each side."""
    theirs = utterances.ids[0].as_py() if len(utterances.ids) else "none"
    recording = utterances.recording(0) if len(utterances.ids) else ""
    return (
        f"the times of {uri} name no utterance of the manifest and none of its recordings: they have "
        f"{printable(name)[:160]!r}, the manifest {theirs!r}" + (f" of {recording}" if recording else "")
    )
