"""Corpora: the layouts in which speech lies on disk or S3, read into candidates in a stable order.

Folders are walked in the order of path components, by code point: the same on every machine, local or S3. Every
recording becomes a candidate; one whose name does not fit the layout keeps its place without labels and is counted,
as is whatever else is there. Links to folders are not followed, links to files are listed. Memory: one folder (S3: all
names).
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipeline.audio.candidate import EXTENSIONS, printable, stem, storable
from pipeline.audio.candidate import Candidate as Candidate
from pipeline.audio.lines import LongLine, pairs
from pipeline.audio.listings import SUFFIXES, read_listing
from pipeline.audio.manifest import encode_id
from pipeline.audio.tables import read_tables
from pipeline.audio.tar_shards import read_shards
from pipeline.audio.voicebank import VoiceBank
from pipeline.audio.walking import (
    container_files,
    container_folder,
    pass_over_file,
    require_folder,
    there_is,
    walk,
)
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import check_uri, join, open_store

LAYOUTS = (
    *("folder", "listing", "webdataset", "parquet"),
    *("librispeech", "fsdd", "emodb", "voicebank", "voicebank-clean"),
)
"""The layouts that ``read_corpus`` knows."""

_LIBRISPEECH = re.compile(r"([0-9]+)-([0-9]+)-[0-9]+")
_FSDD = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)")
_EMODB = re.compile(r"([0-9]{2})([ab][0-9]{2})([WLEAFTN])[a-z]?")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FSDD_TEST_TAKES = 5
_EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_EMODB_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend k\u00f6nnte ich es ihm sagen.",
    "a05": "Das schwarze St\u00fcck Papier befindet sich da oben neben dem Holzst\u00fcck.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das f\u00fcr T\u00fcten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

_Labeller = Callable[[Candidate, str], Candidate | None]
"""Fills the labels of a candidate from its path below the corpus; None where the path does not fit the layout."""

_TRANSCRIPTS = ".trans.txt"


def read_corpus(
    corpus: str, layout: str, audio_column: str | None = None, *, passed_over: PassedOver
) -> Iterator[Candidate]:
    """Read a corpus into candidates, in an order that depends on its content only.

    ===============  ================================================  ==================================
    layout           recordings                                        utterance_id
    ===============  ================================================  ==================================
    folder           every file that ends as audio does                path below the folder, no extension
    listing          rows of a CSV, TSV, JSONL or Parquet table        the table's, else from the path
    webdataset       members of ``.tar`` shards (``tar_shards.py``)    shard, ``/``, name without extension
    parquet          cells of Parquet files (``tables.py``)            the table's, else file, ``/``, row
    librispeech      ``[split/]speaker/chapter/*``, ``*.trans.txt``    file name: ``103-1240-0000``
    fsdd             ``{digit}_{speaker}_{take}.wav``; takes 0-4 test  file name: ``7_george_12``
    emodb            actor, sentence, emotion, version: ``03a01Fa``    file name
    voicebank        ``noisy_{test,train}set*_wav/p232_001.wav``       file name
    voicebank-clean  ``clean_{test,train}set*_wav/p232_001.wav``       file name
    ===============  ================================================  ==================================

    All ids pass through ``encode_id``. ``a.wav`` beside ``a.flac`` are two candidates with one id.

    Args:
        corpus: Folder, listing, Parquet file or pattern of tars, a local path or ``s3://``.
        layout: One of ``LAYOUTS``.
        audio_column: Column of audio of the layout parquet; None finds it.
        passed_over: Counts what of the corpus is not read; whole when the iterator has ended.

    Returns:
        Candidates; those with a ``problem`` are to be rejected for it.

    Raises:
        ManifestError: The corpus is absent, empty, unreadable in part, or not in this layout. A fault found only
            while reading is raised from the iterator.
    """
    corpus = _absolute(corpus)
    if layout == "listing":
        _require_listing(corpus)
        return read_listing(corpus, passed_over)
    if layout in ("webdataset", "parquet"):
        files = container_files(corpus, layout, passed_over)
        if layout == "webdataset":
            return read_shards(corpus, files, passed_over)
        return read_tables(corpus, files, audio_column, passed_over)
    labellers: dict[str, _Labeller] = {"folder": lambda candidate, _: candidate, "fsdd": _fsdd, "emodb": _emodb}
    if layout not in (*labellers, "librispeech", "voicebank", "voicebank-clean"):
        raise ManifestError(f"a corpus has the layout {', '.join(LAYOUTS)}; got {layout!r}")
    require_folder(corpus)
    if layout == "librispeech":
        chapters = _LibriSpeech(corpus, passed_over)
        return _read_folder(corpus, layout, chapters.label, passed_over, used=chapters.used)
    if layout in ("voicebank", "voicebank-clean"):
        trees = VoiceBank(corpus, "clean" if layout == "voicebank-clean" else "noisy", passed_over)
        return _read_folder(corpus, layout, trees.label, passed_over, wanted=trees.wanted)
    return _read_folder(corpus, layout, labellers[layout], passed_over)


def corpus_roots(corpus: str, layout: str) -> list[str]:
    """Name the folders under which the audio of a corpus must lie.

    Returns:
        One absolute path with its links resolved, or one S3 prefix: the folder, or the folder of the listing.

    Raises:
        SettingsError: The corpus carries credentials.
    """
    corpus = _absolute(corpus)
    root = corpus
    if layout == "listing":
        root = corpus.rpartition("/")[0] or "/"
    elif layout in ("webdataset", "parquet"):
        root = container_folder(corpus)
    return [root if root.startswith("s3://") else os.path.realpath(root)]


def _absolute(corpus: str) -> str:
    check_uri(corpus, "the corpus")
    if corpus.startswith("s3://"):
        return corpus.rstrip("/")
    return os.path.abspath(corpus.removeprefix("file://"))


def _require_listing(listing: str) -> None:
    if not listing.startswith("s3://"):
        if os.path.isdir(listing):
            raise ManifestError(f"{listing} is a folder; a listing is a file: give it, or use the layout folder")
        if not os.path.exists(listing):
            raise ManifestError(f"there is no listing {listing}")
    if not listing.lower().endswith(SUFFIXES):
        raise ManifestError(f"a listing ends in {', '.join(SUFFIXES)}; got {listing}")


def _read_folder(
    corpus: str,
    layout: str,
    label: _Labeller,
    passed_over: PassedOver,
    used: Callable[[str], bool] = lambda _: False,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Iterator[Candidate]:
    """Walk a folder.

    ``used`` says of a file that is no recording whether the labels came from it, ``wanted`` of a recording whether the
    layout is about it.
    """
    found = unlabelled = 0
    for path in walk(corpus, passed_over):
        if not path.lower().endswith(EXTENSIONS):
            if not used(path):
                pass_over_file(path, passed_over)
            continue
        if not wanted(path):
            continue
        found += 1
        candidate = _plain(corpus, path)
        labelled = candidate if candidate.problem else label(candidate, path)
        if labelled is None:
            unlabelled += 1
            passed_over.add(Kind.UNFIT_NAMES, example=path)
        yield labelled or candidate
    if not found:
        raise ManifestError(f"{corpus} holds no recordings ({', '.join(EXTENSIONS)}){there_is(passed_over)}")
    if unlabelled == found and layout != "folder":
        raise ManifestError(
            f"none of the {found} recordings under {corpus} is named as in the layout {layout}; use the layout folder"
        )


def _plain(corpus: str, path: str) -> Candidate:
    """Make a candidate of which only the path is known."""
    uri = join(corpus, path)
    problem = None
    if not storable(uri):
        problem = (Reason.BAD_ROW.value, "the path has a line break, a NUL or bytes that are not UTF-8; rename it")
    return Candidate(utterance_id=encode_id(stem(path)), uri=printable(uri), problem=problem)


class _LibriSpeech:
    """The labels of LibriSpeech, a chapter at a time: its recordings come before its transcripts in a walk."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        self._transcripts = ""
        self._texts: dict[str, str | LongLine] = {}
        self._unmet: set[str] = set()

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        *folders, file = path.split("/")
        name = stem(file)
        match = _LIBRISPEECH.fullmatch(name)
        if match is None or list(match.groups()) != folders[-2:]:
            return None
        transcripts = "/".join([*folders, f"{match[1]}-{match[2]}{_TRANSCRIPTS}"])
        if transcripts != self._transcripts:
            self._transcripts = transcripts
            try:
                self._texts = pairs(io.BytesIO(self._store.read(transcripts)), errors="strict")
            except FileNotFoundError:
                self._texts = {}
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


def _fsdd(candidate: Candidate, path: str) -> Candidate | None:
    name = stem(path.rpartition("/")[2])
    match = _FSDD.fullmatch(name)
    if match is None:
        return None
    return replace(
        candidate,
        utterance_id=encode_id(name),
        text=_DIGITS[int(match[1])],
        speaker=match[2],
        language="en",
        split="test" if int(match[3]) < _FSDD_TEST_TAKES else "train",
    )


def _emodb(candidate: Candidate, path: str) -> Candidate | None:
    name = stem(path.rpartition("/")[2])
    match = _EMODB.fullmatch(name)
    if match is None:
        return None
    return replace(
        candidate,
        utterance_id=encode_id(name),
        text=_EMODB_TEXTS.get(match[2]),
        speaker=match[1],
        emotion=_EMOTIONS[match[3]],
        language="de",
    )
