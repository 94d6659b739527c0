"""LibriTTS and LibriTTS-R: ``[set/]speaker/chapter/*.wav`` with the texts of a chapter beside its recordings.

    84_121123.trans.tsv                          id, text as it is written, text as it is spoken
    84_121123_000007_000001.normalized.txt       the text as it is spoken
    84_121123_000007_000001.original.txt         the text as it is written

The text as it is spoken is the text: from the table of the chapter, and where that has none from the file of the
utterance. Archives of the corpus hold resource forks of recordings too, ``._84_121123_000007_000001.wav``.

Source: Zen et al. 2019, LibriTTS: a corpus derived from LibriSpeech for text-to-speech; Koizumi et al. 2023,
LibriTTS-R: a restored multi-speaker text-to-speech corpus. Memory: the texts of a chapter.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.beside import read_beside, read_if_there, text_of
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.lines import Lines, LongLine, count_twice
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import pass_over_file, require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_NAME = re.compile(r"([0-9]+)_([0-9]+)_[0-9]+_[0-9]+")
_TABLE, _TEXT = ".trans.tsv", ".normalized.txt"
_SET = re.compile(r"(?:train|dev|test)[-_].*")
_NOT_READ = (".original.txt", ".book.tsv")
_FIELDS = 3


def read_libritts(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file: ``84_121123_000007_000001``."""
    require_folder(corpus)
    return _read(corpus, passed_over)


def _read(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    chapters = _Chapters(corpus, passed_over)
    yield from read_walked(
        corpus, "libritts", chapters.label, passed_over, used=chapters.used, wanted=chapters.is_no_fork
    )
    chapters.turn_to("")


class _Chapters:
    """The texts, a chapter at a time: its table comes before its recordings in a walk."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        name = corpus.rpartition("/")[2]
        self._split = name if _SET.fullmatch(name) else None
        self._folder = self._table = ""
        self._listed: dict[str, str | LongLine] = {}
        self._files: dict[str, bytes] | None = None
        self._with_text: set[str] = set()
        self._met: set[str] = set()

    def is_no_fork(self, path: str) -> bool:
        """Say whether a file that ends as a recording is one; a resource fork is counted."""
        if path.rpartition("/")[2].startswith("."):
            pass_over_file(path, self._passed_over)
            return False
        return True

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        """Fill the labels of a recording; None where its place or name does not fit."""
        *folders, file = path.split("/")
        name = stem(file)
        match = _NAME.fullmatch(name)
        if match is None or list(match.groups()) != folders[-2:]:
            return None
        self.turn_to("/".join(folders))
        self._met.add(name)
        part = folders[-3] if len(folders) > 2 else self._split
        if part is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="split")
        candidate = replace(candidate, utterance_id=encode_id(name), speaker=match[1], language="en", split=part)
        try:
            text = self._text(name)
        except AudioDecodeError as error:
            return replace(candidate, problem=(str(error.reason), error.detail))
        if text is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="text")
        return replace(candidate, text=text)

    def used(self, path: str) -> bool:
        """Say whether a file that is no recording holds texts; its other endings are counted whole."""
        folder, _, file = path.rpartition("/")
        for ending in _NOT_READ:
            if file.endswith(ending) and not file.startswith("."):
                self._passed_over.add(Kind.OTHER_ENDINGS, example=path, name=ending)
                return True
        *_, speaker, chapter = ["", *folder.split("/")]
        if file == f"{speaker}_{chapter}{_TABLE}":
            self.turn_to(folder)
            return True
        match = _NAME.fullmatch(file.removesuffix(_TEXT))
        if match is None or match.groups() != (speaker, chapter) or not file.endswith(_TEXT):
            return False
        self.turn_to(folder)
        self._with_text.add(match[0])
        return True

    def turn_to(self, folder: str) -> None:
        """Begin a chapter, and count the texts of the last one of which no recording was met."""
        if folder == self._folder:
            return
        for name in sorted((self._with_text | set(self._listed)) - self._met):
            self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{name} of {self._folder}", name="text")
        self._folder, self._files = folder, None
        self._with_text, self._met = set(), set()
        self._table = f"{folder}/{'_'.join(folder.split('/')[-2:])}{_TABLE}"
        self._listed = self._read_table() if folder else {}

    def _read_table(self) -> dict[str, str | LongLine]:
        content = read_if_there(self._store, self._table) or b""
        found: dict[str, str | LongLine] = {}
        for number, line in Lines(io.BytesIO(content)).numbered():
            cells = (line.begin if isinstance(line, LongLine) else line).split("\t")
            name = cells[0].strip()
            if name in found:
                count_twice(self._passed_over, f"line {number} of {self._table}")
            elif isinstance(line, LongLine):
                found[name] = line
            elif len(cells) == _FIELDS:
                found[name] = cells[-1].strip()
            else:
                self._passed_over.add(
                    Kind.UNREAD_LINES, example=f"line {number} of {self._table}", name=f"{len(cells)} fields"
                )
        return found

    def _text(self, name: str) -> str | None:
        listed = self._listed.get(name)
        where = join(self._corpus, self._table)
        try:
            if isinstance(listed, LongLine):
                raise AudioDecodeError(Reason.BAD_ROW, str(listed))
            if listed:
                return fields.label({"text": listed}, ("text",), "text")
            where = join(self._corpus, self._folder, f"{name}{_TEXT}")
            if self._files is None:
                self._files = read_beside(self._store, self._folder, _TEXT)
            return text_of(self._files.get(name, b""))
        except AudioDecodeError as error:
            raise AudioDecodeError(error.reason, f"the text of {name} in {where}: {error.detail}") from error
