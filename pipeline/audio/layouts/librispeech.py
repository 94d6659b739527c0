"""LibriSpeech: ``[split/]speaker/chapter/*``, with a ``*.trans.txt`` of id and text in each chapter.

Source: Panayotov et al. 2015, Librispeech: an ASR corpus based on public domain audio books. Memory: the texts of a
chapter.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.beside import read_if_there
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.lines import LongLine, pairs
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import require_folder
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_NAME = re.compile(r"([0-9]+)-([0-9]+)-[0-9]+")
_TRANSCRIPTS = ".trans.txt"


def read_librispeech(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file: ``103-1240-0000``."""
    require_folder(corpus)
    chapters = _Chapters(corpus, passed_over)
    return read_walked(corpus, "librispeech", chapters.label, passed_over, used=chapters.used)


class _Chapters:
    """The labels, a chapter at a time: its recordings come before its transcripts in a walk."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        self._transcripts = ""
        self._texts: dict[str, str | LongLine] = {}
        self._unmet: set[str] = set()

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        *folders, file = path.split("/")
        name = stem(file)
        match = _NAME.fullmatch(name)
        if match is None or list(match.groups()) != folders[-2:]:
            return None
        transcripts = "/".join([*folders, f"{match[1]}-{match[2]}{_TRANSCRIPTS}"])
        if transcripts != self._transcripts:
            self._transcripts = transcripts
            content = read_if_there(self._store, transcripts) or b""
            try:
                self._texts = pairs(io.BytesIO(content), transcripts, self._passed_over, errors="strict")
            except UnicodeDecodeError as error:
                raise ManifestError(f"{join(self._corpus, transcripts)} is not UTF-8 text: {error}") from error
            self._unmet = set(self._texts)
        self._unmet.discard(name)
        text = self._texts.get(name)
        if isinstance(text, LongLine):
            detail = f"line {text.number} of {join(self._corpus, transcripts)}: {text}"
            return replace(candidate, utterance_id=encode_id(name), problem=(Reason.BAD_ROW.value, detail))
        return replace(
            candidate,
            utterance_id=encode_id(name),
            text=text,
            speaker=match[1],
            language="en",
            split=folders[-3] if len(folders) > 2 else self._corpus.rpartition("/")[2],
        )

    def used(self, path: str) -> bool:
        """Say whether a file that is no recording held the labels of the recordings before it."""
        if path != self._transcripts:
            return False
        for name in sorted(self._unmet):
            self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{name} of {path}", name=_TRANSCRIPTS)
        return True
