"""TIMIT: ``[data/]{TRAIN,TEST}/DR1-8/SPEAKER/SENTENCE.WAV``, in upper or lower case, with labels beside each recording.

    TRAIN/DR1/FCJF0/SA1.WAV  SA1.TXT  SA1.WRD  SA1.PHN

A ``.TXT`` holds the first and the last sample, and the text. Sentences bear the same names for all speakers (each reads
``SA1`` and ``SA2``), so an utterance is called ``DR1/FCJF0/SA1``, in upper case whichever way an edition spells its
files. Some editions have a copy of each recording, ``SA1.WAV.wav``: it is read where the original is not there.

Source: Garofolo et al. 1993, TIMIT acoustic-phonetic continuous speech corpus, LDC93S1. Memory: the labels of one
speaker.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio import fields
from pipeline.audio.candidate import EXTENSIONS, Candidate, stem
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.lines import count_twice
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import pass_over_file, require_folder
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_PLACE = re.compile(r"(?:.*/)?(TRAIN|TEST)/(DR[1-8])/([FM][A-Z]{2,3}[0-9])/(S[AIX][0-9]+)")
_FOLDERS = 3
_TEXT, _TIMES = ".txt", (".wrd", ".phn")
_COPY = ".wav.wav"
_LINE = re.compile(r"\s*[0-9]+[ \t]+[0-9]+[ \t]+([^\r\n]*\S)\s*")


def read_timit(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; the splits are ``train`` and ``test``, the speaker is called as the folder: ``FCJF0``."""
    require_folder(corpus)
    speakers = _Speakers(corpus, passed_over)
    return read_walked(corpus, "timit", speakers.label, passed_over, used=speakers.used, wanted=speakers.wanted)


class _Speakers:
    """The labels, a speaker's folder at a time."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        # The corpus may be the part TRAIN, or a folder in it.
        self._above = "/".join(corpus.split("/")[-_FOLDERS:])
        self._folder: str | None = None
        self._files: frozenset[str] = frozenset()
        self._recorded: frozenset[str] = frozenset()
        self._texts: dict[str, tuple[str, bytes]] = {}

    def wanted(self, path: str) -> bool:
        """Leave out hidden files, and copies of recordings that are there."""
        folder, _, file = path.rpartition("/")
        if file.startswith("."):
            pass_over_file(path, self._passed_over)
            return False
        if file.lower().endswith(_COPY):
            self._enter(folder)
            if file[: -len(".wav")] in self._files:
                self._passed_over.add(Kind.OTHER_ENDINGS, example=path, name=_COPY)
                return False
        return True

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        place = self._place(path, _called(path))
        if place is None:
            return None
        self._enter(path.rpartition("/")[0])
        part, dialect, speaker, sentence = place.groups()
        labelled = replace(
            candidate,
            utterance_id=encode_id(f"{dialect}/{speaker}/{sentence}"),
            speaker=speaker,
            language="en",
            split=part.lower(),
        )
        if sentence not in self._texts:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="text")
            return labelled
        file, data = self._texts[sentence]
        try:
            return replace(labelled, text=_text(data))
        except AudioDecodeError as error:
            return replace(labelled, problem=(str(error.reason), f"{join(self._corpus, file)}: {error.detail}"))

    def used(self, path: str) -> bool:
        """Say whether a file that is no recording holds labels or times of one."""
        name, dot, ending = path.rpartition(".")
        ending = dot + ending.lower()
        place = self._place(path, name) if ending in (_TEXT, *_TIMES) else None
        if place is None:
            return False
        self._enter(path.rpartition("/")[0])
        if place[4] not in self._recorded:
            self._passed_over.add(Kind.UNMATCHED_IDS, example=path, name=ending)
        elif ending == _TEXT and self._texts.get(place[4], (path,))[0] != path:
            count_twice(self._passed_over, path)
        return True

    def _place(self, path: str, name: str) -> re.Match[str] | None:
        hidden = path.rpartition("/")[2].startswith(".")
        return None if hidden else _PLACE.fullmatch(f"{self._above}/{name}".upper())

    def _enter(self, folder: str) -> None:
        """Read the texts of a folder."""
        if folder == self._folder:
            return
        self._folder = folder
        self._files = frozenset(self._store.names(folder))
        below = f"{folder}/" if folder else ""
        self._recorded = frozenset(
            _called(file).upper() for file in self._files if file.lower().endswith(EXTENSIONS) and file[0] != "."
        )
        found = [file for file in sorted(self._files) if file.lower().endswith(_TEXT)]
        # Of SA1.TXT and SA1.txt the first is read.
        named = {file[: -len(_TEXT)].upper(): below + file for file in reversed(found)}
        wanted = [name for name in named if name in self._recorded]
        try:
            texts = self._store.read_many([named[name] for name in wanted])
        except OSError as error:
            raise ManifestError(f"the texts of {join(self._corpus, folder)} cannot be read: {error}") from error
        self._texts = {name: (named[name], data) for name, data in zip(wanted, texts, strict=True)}


def _called(path: str) -> str:
    """Drop the extension of a recording, and both of a copy."""
    return stem(stem(path)) if path.lower().endswith(_COPY) else stem(path)


def _text(data: bytes) -> str | None:
    """Read what a ``.TXT`` says.

    Raises:
        AudioDecodeError: BAD_ROW for what is not one line of two samples and a text.
    """
    line = _LINE.fullmatch(data.decode("utf-8-sig", "surrogateescape"))
    if line is None:
        raise AudioDecodeError(Reason.BAD_ROW, "it is not one line of a first sample, a last sample and a text")
    return fields.label({"text": line[1]}, ("text",), "text")
