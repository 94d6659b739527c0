"""IEMOCAP: sentences of ten actors in five sessions, with their emotions and texts in a file each per dialog.

    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav
    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      [7.5712 - 10.4750]<tab>Ses01F_impro01_M000<tab>fru<tab>[..]
    Session1/dialog/transcriptions/Ses01F_impro01.txt     Ses01F_impro01_M000 [007.5712-010.4750]: Do you have ...

The letter behind ``Ses01`` names the actor who wore the markers in that dialog; who speaks is the letter of the last
field. Emotions are the four classes by which the field compares: anger, happiness (which excitement joins), neutral and
sadness, 5,531 of the 10,039 utterances. Those of other classes have no emotion, and are counted by their class.

Source: Busso et al. 2008, IEMOCAP: interactive emotional dyadic motion capture database. The four classes: Yang et al.
2021, SUPERB, emotion recognition. Memory: the labels of a dialog, and the name of each file of labels.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.beside import read_if_there
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.lines import Lines, LongLine, count_twice
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import pass_over_file, require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_NAME = re.compile(r"((Ses0([1-5]))[FM]_[A-Za-z0-9_]+)_([FM])[A-Z0-9]+")
_EVALUATIONS, _TRANSCRIPTIONS = "EmoEvaluation", "transcriptions"
_LABELS = re.compile(rf"(?:.*/)?dialog/({_EVALUATIONS}|{_TRANSCRIPTIONS})/[^./][^/]*\.txt")
_DIALOG = re.compile(r"(?:.*/)?dialog/wav/[^/]+")
_ENTRIES = {
    _EVALUATIONS: re.compile(r"\[[^\]]*\]\s+(\S+)\s+(\S+)"),
    _TRANSCRIPTIONS: re.compile(r"(\S+)\s+\[[^\]]*\]:?[ \t]*(.*)"),
}
_EMOTIONS = {"ang": "anger", "hap": "happiness", "exc": "happiness", "neu": "neutral", "sad": "sadness"}

_Entries = dict[str, tuple[int, str | LongLine]]
"""The line and the value of each utterance, or that the line is too long."""


def read_iemocap(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file, its split as its session: ``Session1``."""
    require_folder(corpus)
    return _Dialogs(corpus, passed_over).read()


class _Dialogs:
    """The labels, a dialog at a time; the files that hold them come before the sentences in a walk."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        self._unread: set[str] = set()
        self._folder: str | None = None
        self._entries: dict[str, _Entries] = {}
        self._unmet: dict[str, set[str]] = {}
        self._tables: dict[str, str] = {}

    def read(self) -> Iterator[Candidate]:
        yield from read_walked(
            self._corpus, "iemocap", self._label, self._passed_over, used=self._used, wanted=self._wanted
        )
        self._leave()
        for path in sorted(self._unread):
            pass_over_file(path, self._passed_over)

    def _used(self, path: str) -> bool:
        """Say whether a file holds labels; whether of any sentence is known at the end."""
        if _LABELS.fullmatch(path) is None:
            return False
        self._unread.add(path)
        return True

    def _wanted(self, path: str) -> bool:
        """Leave out the hidden files that the original archive has, and recordings of whole dialogs."""
        if path.rpartition("/")[2].startswith("."):
            pass_over_file(path, self._passed_over)
            return False
        if _DIALOG.fullmatch(path):
            self._passed_over.add(Kind.UNLISTED_FILES, example=path)
            return False
        return True

    def _label(self, candidate: Candidate, path: str) -> Candidate | None:
        *folders, file = path.split("/")
        name = stem(file)
        match = _NAME.fullmatch(name)
        if match is None or folders[-3:] != ["sentences", "wav", match[1]]:
            return None
        self._enter("/".join(folders[:-3]), "/".join(folders), match[1])
        for unmet in self._unmet.values():
            unmet.discard(name)
        labelled = replace(
            candidate,
            utterance_id=encode_id(name),
            speaker=match[2] + match[4],
            language="en",
            split=f"Session{match[3]}",
        )
        try:
            return replace(labelled, emotion=self._emotion(name), text=self._text(name))
        except AudioDecodeError as error:
            return replace(labelled, problem=(str(error.reason), error.detail))

    def _text(self, name: str) -> str | None:
        number, text = self._entry(_TRANSCRIPTIONS, name)
        try:
            return fields.label({"text": text}, ("text",), "text")
        except AudioDecodeError as error:
            raise AudioDecodeError(error.reason, f"{self._line(_TRANSCRIPTIONS, number)}: {error.detail}") from error

    def _emotion(self, name: str) -> str | None:
        _, code = self._entry(_EVALUATIONS, name)
        emotion = _EMOTIONS.get(code)
        if code and emotion is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=name, name=f"emotion {code}")
        return emotion

    def _entry(self, kind: str, name: str) -> tuple[int, str]:
        number, value = self._entries[kind].get(name, (0, ""))
        if isinstance(value, LongLine):
            raise AudioDecodeError(Reason.BAD_ROW, f"{self._line(kind, number)}: {value}")
        if not value:
            column = {_EVALUATIONS: "emotion", _TRANSCRIPTIONS: "text"}[kind]
            self._passed_over.add(Kind.WITHOUT_LABEL, example=name, name=column)
        return number, value

    def _line(self, kind: str, number: int) -> str:
        return f"line {number} of {join(self._corpus, self._tables[kind])}"

    def _enter(self, session: str, folder: str, dialog: str) -> None:
        """Read the labels of a dialog."""
        if folder == self._folder:
            return
        self._leave()
        self._folder = folder
        for kind, pattern in _ENTRIES.items():
            path = "/".join([*([session] if session else []), "dialog", kind, f"{dialog}.txt"])
            self._tables[kind] = path
            self._unread.discard(path)
            self._entries[kind] = self._read(path, pattern)
            self._unmet[kind] = set(self._entries[kind])

    def _leave(self) -> None:
        """Count the labels of a dialog that have met no sentence."""
        for kind, unmet in self._unmet.items():
            for name in sorted(unmet):
                self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{name} of {self._tables[kind]}", name=kind)
        self._unmet = {}

    def _read(self, path: str, pattern: re.Pattern[str]) -> _Entries:
        data = read_if_there(self._store, path) or b""
        found: _Entries = {}
        for number, line in Lines(io.BytesIO(data)).numbered():
            begin = (line.begin if isinstance(line, LongLine) else line).strip()
            match = pattern.match(begin)
            if match is not None and _NAME.fullmatch(match[1]):
                if match[1] in found:
                    count_twice(self._passed_over, f"line {number} of {path}")
                else:
                    found[match[1]] = number, line if isinstance(line, LongLine) else match[2]
            elif not begin.startswith("%"):
                # Answers of single annotators (C-, A-), and what the partner throws in (M:, F:).
                self._passed_over.add(Kind.UNREAD_LINES, example=f"line {number} of {path}", name=begin[:2])
        return found
