"""Multilingual LibriSpeech: a folder for each language, in which a table names the recordings of each split.

    [mls_polish/]{dev,test,train}/transcripts.txt                     an id, a tab, the text
    [mls_polish/]{dev,test,train}/audio/8758/8338/8758_8338_000000.flac

The corpus is the folder of a language, that of a split, or one that holds several languages; ``mls_polish_opus`` has
Opus. Rows name their recordings: an id is speaker, book and number.

Source: Pratap et al. 2020, MLS: a large-scale multilingual dataset for speech research, https://openslr.org/94. Memory:
the names of a book, and 8 bytes for each row; on S3 all names, once the tables have been read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audio.candidate import EXTENSIONS, Candidate, shown, stem
from pipeline.audio.layouts.absent_table import without_table
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.ground import NamedFiles
from pipeline.audio.lines import Lines, LongLine
from pipeline.audio.walking import pass_over_file, require_folder, there_is, walk
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_TABLE = "transcripts.txt"
_SPLITS = ("dev", "test", "train")
_LANGUAGES = {
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "polish": "pl",
    "portuguese": "pt",
    "spanish": "es",
}
_LANGUAGE = re.compile(r"mls_([a-z]+?)(_opus)?")
_ID = re.compile(r"([0-9]+)_([0-9]+)_[0-9]+")


@dataclass(frozen=True)
class _Part:
    """A split of a language.

    Attributes:
        folder: Its folder below the corpus with a slash behind it; empty where it is the corpus.
        split: Its name.
        language: An ISO 639 code; None where the name of the folder is none of the corpus.
        ending: How recordings end.
    """

    folder: str
    split: str
    language: str | None
    ending: str


def read_mls(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus in the order of its tables; an utterance is called as its file: ``8758_8338_000000``."""
    require_folder(corpus)
    return _read(corpus, passed_over)


def _read(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    parts = _parts(corpus)
    if not parts:
        raise without_table(corpus, "mls", f"[mls_LANGUAGE/]{{{','.join(_SPLITS)}}}/{_TABLE}", passed_over)
    books = _Books(corpus, passed_over)
    for part in parts:
        yield from books.read(part)
    books.count_others({part.folder + _TABLE for part in parts})


def _parts(corpus: str) -> list[_Part]:
    """Find the splits by the names that they may have, without a look at the millions of recordings."""
    store = open_store(corpus)
    languages = (f"mls_{name}{kind}/" for name in _LANGUAGES for kind in ("", "_opus"))
    below = ["", *(f"{language}{split}/" for language in ("", *languages) for split in _SPLITS)]
    return [_part(corpus, folder) for folder in below if store.exists(folder + _TABLE)]


def _part(corpus: str, folder: str) -> _Part:
    _, language, split = ["", *join(corpus, folder).rstrip("/").split("/")][-3:]
    match = _LANGUAGE.fullmatch(language)
    code = _LANGUAGES.get(match[1]) if match else None
    return _Part(folder, split, code, ".opus" if match and match[2] else ".flac")


class _Books:
    """The recordings of the books that tables name."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        self._folder = ""
        self._files: dict[str, str] = {}
        self._named = NamedFiles()
        self._found = False

    def read(self, part: _Part) -> Iterator[Candidate]:
        """Give the rows of a table."""
        table = join(self._corpus, part.folder + _TABLE)
        with opened(table) as file:
            for number, line in Lines(file).numbered():
                where = f"line {number} of {table}"
                try:
                    yield self._candidate(line, part, where)
                except AudioDecodeError as error:
                    yield refused(f"{part.folder}{_TABLE}@line{number}", "", where, error)

    def _candidate(self, line: str | LongLine, part: _Part, where: str) -> Candidate:
        if isinstance(line, LongLine):
            raise AudioDecodeError(Reason.BAD_ROW, str(line))
        name, *rest = line.split(maxsplit=1)
        match = _ID.fullmatch(name)
        if match is None:
            raise AudioDecodeError(Reason.BAD_ROW, f"its id must be speaker_book_number, got {shown(name)}")
        self._turn_to(f"{part.folder}audio/{match[1]}/{match[2]}")
        path = f"{self._folder}/{self._files.get(name, name + part.ending)}"
        self._found |= name in self._files
        self._named.add(path)
        labels = {"text": "".join(rest).strip(), "speaker": match[1], "language": part.language, "split": part.split}
        for label in ("text", "language"):
            if not labels[label]:
                self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name=label)
        return entry(name, path, self._corpus, where, labels=labels)

    def _turn_to(self, folder: str) -> None:
        if folder == self._folder:
            return
        self._folder, self._files = folder, {}
        for file in self._store.names(folder):
            if file.lower().endswith(EXTENSIONS):
                self._files.setdefault(stem(file), file)

    def count_others(self, tables: set[str]) -> None:
        """Count what no table names.

        Args:
            tables: The tables.

        Raises:
            ManifestError: No table names a recording that is there.
        """
        self._folder, self._files = "", {}
        for path in walk(self._corpus, self._passed_over):
            if path.lower().endswith(EXTENSIONS):
                if path not in self._named:
                    self._passed_over.add(Kind.UNLISTED_FILES, example=path)
            elif path not in tables:
                pass_over_file(path, self._passed_over)
        if not self._found:
            there = there_is(self._passed_over)
            raise ManifestError(f"{self._corpus} holds no recordings that its {_TABLE} name{there}")
