"""GigaSpeech: one ``GigaSpeech.json`` of gigabytes, and long recordings below ``audio/`` of which it lists segments.

    {"dataset": "GigaSpeech", ..., "audios": [{"aid", "path", ..., "segments": [
        {"sid", "speaker", "begin_time", "end_time", "text_tn", "subsets": ["{XL}", "{L}"]}, ...]}, ...]}

The text is ``text_tn`` as it stands: its ``<COMMA>``, ``<PERIOD>``, ``<QUESTIONMARK>`` and ``<EXCLAMATIONPOINT>`` are
all the punctuation that the corpus has. A segment of which nothing but ``<SIL>``, ``<MUSIC>``, ``<NOISE>`` or
``<OTHER>`` is noted is no speech. No speaker is known: ``N/A`` is none.

Source: Chen et al. 2021, GigaSpeech: an evolving, multi-domain ASR corpus with 10,000 hours of transcribed audio;
github.com/SpeechColab/GigaSpeech. Memory: a recording with its segments; see also ``ground.py``.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate
from pipeline.audio.layouts.absent_table import without_table
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.ground import Ground, NamedFiles, count_unnamed, survey, usable
from pipeline.audio.layouts.json_arrays import array_elements
from pipeline.audio.layouts.layout import folder_of_file
from pipeline.audio.layouts.spans import span
from pipeline.audio.walking import require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_NAMES = ("GigaSpeech.json", "GigaSpeech.json.gz")
_ENDINGS = (".json", ".json.gz")
_NO_SPEECH = frozenset(("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>"))
_PUNCTUATION = frozenset(("<COMMA>", "<PERIOD>", "<QUESTIONMARK>", "<EXCLAMATIONPOINT>"))
_SPLITS = {"DEV": "dev", "TEST": "test", **dict.fromkeys(("XL", "L", "M", "S", "XS"), "train")}
_UNKNOWN_SPEAKER = "N/A"

# What says of a recording's file what the file says itself is not missed.
_OF_FILE = ("duration", "sample_rate", "channels", "format", "size", "md5")
_AUDIO_FIELDS = {name: (name,) for name in ("aid", "path", "segments", *_OF_FILE)}
_SEGMENT_FIELDS = {name: (name,) for name in ("sid", "begin_time", "end_time", "speaker", "text_tn", "subsets")}


def gigaspeech_folder(corpus: str) -> str:
    """Name the folder of the corpus, which may be given as its JSON file."""
    return folder_of_file(corpus) if corpus.lower().endswith(_ENDINGS) else corpus


def read_gigaspeech(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus, given as its folder or its JSON file; an utterance is called by its ``sid``."""
    folder, name = gigaspeech_folder(corpus), corpus.rpartition("/")[2]
    if folder == corpus:
        require_folder(corpus)
        store = open_store(corpus)
        name = next((name for name in _NAMES if store.exists(name)), "")
        if not name:
            raise without_table(corpus, "gigaspeech", _NAMES[0], passed_over)
    refusal = (
        f"{folder} holds no recordings that {name} names; unpack the audio where its paths say, as "
        "audio/podcast/P0001/POD0000000025.opus"
    )
    return usable(_Reader(folder, name, passed_over).candidates(), refusal, passed_over)


class _Reader:
    """One reading of the corpus."""

    def __init__(self, folder: str, name: str, passed_over: PassedOver) -> None:
        self._folder, self._name, self._passed_over = folder, name, passed_over
        self._audio_fields, self._segment_fields = UnreadColumns(_AUDIO_FIELDS), UnreadColumns(_SEGMENT_FIELDS)
        self._named = NamedFiles()

    def candidates(self) -> Iterator[Candidate]:
        table = join(self._folder, self._name)
        with opened(table) as file:
            ground = survey(self._folder, lambda path: path == self._name, lambda path: (posixpath.dirname(path),))
            for number, audio in enumerate(array_elements(file, "audios", table), 1):
                yield from self._recording(number, audio, ground)
        self._audio_fields.count(self._passed_over, table)
        self._segment_fields.count(self._passed_over, table)
        count_unnamed(self._folder, ground, self._named, self._passed_over)

    def _recording(self, number: int, audio: Any, ground: Ground) -> Iterator[Candidate]:
        """Give the segments of a recording, or what is wrong with it."""
        where = f"recording {number} of {self._name}"
        try:
            if not isinstance(audio, dict):
                raise _bad("it is not an object")
            self._audio_fields.see(audio)
            path, segments = audio.get("path"), audio.get("segments") or []
            if not isinstance(path, str) or not path or not isinstance(segments, list):
                raise _bad("it has no path, or its segments are no list")
            aid = fields.label(audio, ("aid",), "utterance_id") or f"@audio{number}"
            if ground.lacks(path):
                folder = posixpath.dirname(path)
                self._passed_over.add(Kind.UNMATCHED_IDS, len(segments) or 1, example=f"{aid}: {path}", name=folder)
                return
            self._named.add(path)
            if not segments:
                raise AudioDecodeError(Reason.NO_SEGMENT, "it has no segments")
        except AudioDecodeError as error:
            written = audio.get("path") if isinstance(audio, dict) else None
            yield refused(f"@audio{number}", written if isinstance(written, str) else "", where, error)
            return
        for place, segment in enumerate(segments, 1):
            yield self._segment(segment, path, f"{aid}@{place}", f"segment {place} of {where}")

    def _segment(self, segment: Any, path: str, name: str, where: str) -> Candidate:
        try:
            if not isinstance(segment, dict):
                raise _bad("it is not an object")
            self._segment_fields.see(segment)
            sid = fields.label(segment, ("sid",), "utterance_id")
            if sid is None:
                raise _bad("it has no sid")
            name = sid
            place = span(segment.get("begin_time"), segment.get("end_time"))
            labels = {
                "text": segment.get("text_tn"),
                "speaker": None if segment.get("speaker") == _UNKNOWN_SPEAKER else segment.get("speaker"),
                "language": "en",
                "split": _split(segment),
            }
        except AudioDecodeError as error:
            return refused(name, path, where, error)
        candidate = entry(name, path, self._folder, where, labels=labels, **place)
        words = set((candidate.text or "").split())
        if candidate.problem is None and words & _NO_SPEECH and words <= _NO_SPEECH | _PUNCTUATION:
            why = f"{where}: it is marked {candidate.text}, which is no speech"
            return replace(candidate, problem=(Reason.NO_SPEECH.value, why))
        return candidate


def _split(segment: Mapping[str, Any]) -> str | None:
    """Read the split from the subsets, which are spelt in braces; dev and test go before train."""
    subsets = segment.get("subsets") or []
    if not isinstance(subsets, list) or not all(isinstance(subset, str) for subset in subsets):
        raise _bad("its subsets are no list of texts")
    splits = {_SPLITS.get(subset.strip("{}")) for subset in subsets}
    return next((split for split in ("test", "dev", "train") if split in splits), None)


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)
