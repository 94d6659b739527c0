"""VCTK: recordings and texts in trees side by side, a folder for each speaker.

    txt/p225/p225_001.txt      wav48/p225/p225_001.wav                              version 0.80
                               wav48_silence_trimmed/p225/p225_001_mic1.flac        version 0.92
                               wav48_silence_trimmed/p225/p225_001_mic2.flac

Version 0.92 has two microphones: two recordings of one utterance, of which each is read, under the name of its file.
Some speakers lack one of them (p280), or the texts (p315), or single recordings (p362).

Source: Yamagishi, Veaux and MacDonald 2019, CSTR VCTK Corpus (version 0.92), doi 10.7488/ds/2645. Memory: the texts of
a speaker, and the names of those of which no recording was met.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.beside import read_beside, text_of
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import join, open_store

_TREE = re.compile(r"wav[0-9]+(?:_silence_trimmed)?")
_RECORDING = re.compile(r"(([a-z][0-9]+)_[0-9]+)(?:_mic[0-9])?")
_TEXT = re.compile(r"([a-z][0-9]+)_[0-9]+\.txt")
_TEXTS = "txt"


def read_vctk(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file: ``p225_001``, or ``p225_001_mic1``."""
    require_folder(corpus)
    return _read(corpus, passed_over)


def _read(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    speakers = _Speakers(corpus, passed_over)
    yield from read_walked(corpus, "vctk", speakers.label, passed_over, used=speakers.used)
    speakers.finish()


class _Speakers:
    """The texts, a speaker at a time: the tree of texts comes before those of recordings in a walk."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        self._folder = ""
        self._texts: dict[str, bytes] = {}
        # By speaker: each tree of recordings may have some of them.
        self._unmet: dict[str, set[str]] = {}
        # How many texts a speaker has of whom no recording was met yet, and one of them.
        self._waiting: dict[str, tuple[int, str]] = {}

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        """Fill the labels of a recording; None where its place or name does not fit."""
        *folders, file = path.split("/")
        match = _RECORDING.fullmatch(stem(file))
        if match is None or len(folders) < 2 or not _TREE.fullmatch(folders[-2]) or folders[-1] != match[2]:
            return None
        self._turn_to("/".join([*folders[:-2], _TEXTS, match[2]]))
        self._unmet[self._folder].discard(match[1])
        candidate = replace(candidate, utterance_id=encode_id(stem(file)), speaker=match[2], language="en")
        try:
            text = text_of(self._texts.get(match[1], b""))
        except AudioDecodeError as error:
            where = join(self._corpus, self._folder, f"{match[1]}.txt")
            return replace(candidate, problem=(str(error.reason), f"{where}: {error.detail}"))
        if text is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="text")
        return replace(candidate, text=text)

    def used(self, path: str) -> bool:
        """Say whether a file that is no recording is the text of one."""
        if not _is_text(path):
            return False
        folder = path.rpartition("/")[0]
        count, example = self._waiting.get(folder, (0, path))
        self._waiting[folder] = count + 1, example
        return True

    def finish(self) -> None:
        """Count the texts of which no recording was met."""
        for folder, names in self._unmet.items():
            for name in sorted(names):
                self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{folder}/{name}.txt", name=_TEXTS)
        for count, example in self._waiting.values():
            self._passed_over.add(Kind.UNMATCHED_IDS, count, example=example, name=_TEXTS)

    def _turn_to(self, folder: str) -> None:
        if folder == self._folder:
            return
        self._folder = folder
        self._waiting.pop(folder, None)
        self._texts = read_beside(self._store, folder, ".txt")
        if folder not in self._unmet:
            self._unmet[folder] = {name for name in self._texts if _is_text(f"{folder}/{name}.txt")}


def _is_text(path: str) -> bool:
    *_, tree, speaker, file = ["", "", *path.split("/")]
    match = _TEXT.fullmatch(file)
    return match is not None and [tree, speaker] == [_TEXTS, match[1]]
