"""Which files a corpus has, in an order that is the same on every machine: path components, by code point.

Also the files of corpora that hold audio inside them, given as a folder, a file, a pattern in braces or a list.
Links to folders are not followed, links to files are listed. Memory: one folder (S3: all names).
"""

import itertools
import os
import posixpath
import re
from collections.abc import Iterator

from pipeline.audio.candidate import locate, printable
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import join, open_store

ENDINGS = {"webdataset": ".tar", "parquet": ".parquet"}
"""How the files of a layout end that hold audio inside them."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_MOST_SHARDS = 1_000_000
_FOLDERS_SHOWN = 5


def container_folder(corpus: str) -> str:
    """Name the folder of a corpus of tars or tables, with which their paths and ids begin."""
    plain = corpus.partition("{")[0]
    files = (*ENDINGS.values(), *_COMPRESSED, ".txt")
    return plain.rpartition("/")[0] or "/" if plain != corpus or corpus.endswith(files) else corpus


def container_files(corpus: str, layout: str, passed_over: PassedOver) -> list[str]:
    """List the tars or tables of a corpus.

    Args:
        corpus: A folder, one file, a pattern such as ``a-{000..099}.tar`` or ``{train,test}.tar``, or a ``.txt``
            file with one path a line; local and absolute, or ``s3://``.
        layout: A key of ``ENDINGS``.
        passed_over: Counts the other files of a folder.

    Returns:
        Paths or URIs: a folder's in its order, others as written.

    Raises:
        ManifestError: There are none, or compressed ones.
    """
    ending = ENDINGS[layout]
    folder = container_folder(corpus)
    if corpus.endswith(".txt"):
        files = _listed(corpus, folder)
    elif folder != corpus:
        files = list(itertools.islice(expand(corpus), _MOST_SHARDS + 1))
    else:
        require_folder(corpus)
        files = list(_of_folder(corpus, (ending, *_COMPRESSED), passed_over))
    if not files:
        raise ManifestError(f"{corpus} holds no recordings: no file ends in {ending}{there_is(passed_over)}")
    if len(files) > _MOST_SHARDS:
        raise ManifestError(f"{corpus} names more than {_MOST_SHARDS} files; split the corpus")
    for file in files:
        if layout == "webdataset" and file.lower().endswith(_COMPRESSED):
            raise ManifestError(
                f"{printable(file)} is a compressed tar, in which no member can be read alone; unpack it to a plain "
                ".tar (gunzip)"
            )
        if not file.lower().endswith(ending):
            raise ManifestError(f"{printable(file)} does not end in {ending}, as files of the layout {layout} do")
    return files


def _of_folder(corpus: str, endings: tuple[str, ...], passed_over: PassedOver) -> Iterator[str]:
    for path in walk(corpus, passed_over):
        if posixpath.basename(path).startswith("_"):
            passed_over.add(Kind.HIDDEN_FILES, example=path)
        elif path.lower().endswith(endings) and not posixpath.basename(path).startswith("."):
            yield join(corpus, path)
        else:
            pass_over_file(path, passed_over)


def pass_over_file(path: str, passed_over: PassedOver) -> None:
    """Count a file of a folder that is not read, by its ending."""
    name = posixpath.basename(path)
    if name.startswith("."):
        passed_over.add(Kind.HIDDEN_FILES, example=path)
    else:
        passed_over.add(Kind.OTHER_ENDINGS, example=path, name=ending_of(name))


def ending_of(name: str) -> str:
    """Name the ending of a file, for a count of them."""
    return posixpath.splitext(name)[1].lower() or "none"


def there_is(passed_over: PassedOver, unsearched: str = "") -> str:
    """Say what a corpus without recordings holds instead.

    Args:
        passed_over: What was counted of it.
        unsearched: The corpus, where its folders were not looked into: they are named.
    """
    found = "; ".join(f"{kind.removeprefix('passed over: ')} {count}" for kind, count in passed_over.lines())
    folders = _folders(unsearched) if unsearched else []
    names = ("folder " if len(folders) == 1 else "folders ") + printable(", ".join(folders[:_FOLDERS_SHOWN]))
    names += ", ..." if len(folders) > _FOLDERS_SHOWN else ""
    if found:
        return f"; what there is: {found}" + (f"; the {names}, not looked into" if folders else "")
    which = "it" if len(folders) == 1 else "one of them"
    return f"; it holds only the {names}: give {which}" if folders else "; it is empty, or does not exist"


def _folders(corpus: str) -> list[str]:
    """Name the folders directly in a folder."""
    if corpus.startswith("s3://"):
        found = {path.partition("/")[0] for path in open_store(corpus).tree("") if "/" in path}
    else:
        found = {entry.name for entry in _entries(corpus) if entry.is_dir()}
    return sorted(name for name in found if not name.startswith("."))


def require_folder(corpus: str) -> None:
    """Refuse a local corpus that is no folder.

    Raises:
        ManifestError: It is absent, or a file.
    """
    if corpus.startswith("s3://"):
        return
    if not os.path.exists(corpus):
        raise ManifestError(f"there is no corpus folder {corpus}")
    if not os.path.isdir(corpus):
        raise ManifestError(f"{corpus} is a file, not a corpus folder; a table of utterances has the layout listing")


def _listed(corpus: str, folder: str) -> list[str]:
    try:
        lines = open_store(folder).read(corpus.rpartition("/")[2]).decode("utf-8-sig").splitlines()
        return [file for line in lines if line.strip() for file in expand(locate(line.strip(), folder))]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"the list {corpus} cannot be read: {error}") from error
    except AudioDecodeError as error:
        raise ManifestError(f"the list {corpus} names a file that is not read: {error.detail}") from error


def expand(pattern: str) -> Iterator[str]:
    """Give the names that a pattern in braces stands for: ``{08..11}`` counts with leading zeros, ``{a,b}`` lists.

    Raises:
        ManifestError: The braces do not match.
    """
    before, brace, rest = pattern.partition("{")
    if not brace:
        yield pattern
        return
    inside, closed, after = rest.partition("}")
    if not closed or "{" in inside:
        raise ManifestError(f"the braces of {printable(pattern)} do not match; write a-{{000..099}}.tar")
    choices: Iterator[str]
    if counted := _RANGE.fullmatch(inside):
        first, last = counted.groups()
        choices = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    else:
        choices = iter(inside.split(","))
    for choice in choices:
        yield from expand(before + choice + after)


def walk(corpus: str, passed_over: PassedOver) -> Iterator[str]:
    """Give the paths of all files below a folder or prefix, relative to it, and count links to folders."""
    return iter(_walk_s3(corpus)) if corpus.startswith("s3://") else _walk(corpus, passed_over)


def _walk_s3(corpus: str) -> list[str]:
    return sorted(open_store(corpus).tree(""), key=lambda path: path.split("/"))


def _walk(root: str, passed_over: PassedOver) -> Iterator[str]:
    """Give all files below a folder, as paths below it, in the order of their components."""
    pending = [iter(_entries(root))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif entry.is_dir(follow_symlinks=False):
            pending.append(iter(_entries(entry.path)))
        elif entry.is_symlink() and os.path.isdir(entry.path):
            passed_over.add(Kind.LINKED_FOLDERS, example=entry.path.removeprefix(root).lstrip("/"))
        else:
            yield entry.path.removeprefix(root).lstrip("/")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(
            f"the folder {printable(folder)} cannot be read ({error.strerror}); make it readable or move it away"
        ) from error
