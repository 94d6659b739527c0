"""Corpora: the layouts in which speech lies on disk or S3, read into candidates in a stable order.

Folders are walked in the order of path components, by code point: the same on every machine, local or S3. Every
recording becomes a candidate; one whose name does not fit the layout keeps its place without labels and is counted
in the log. Links to folders are not followed, links to files are listed. Memory: one folder (S3: all names).
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipeline.audio.candidate import EXTENSIONS, printable, stem, storable
from pipeline.audio.candidate import Candidate as Candidate
from pipeline.audio.listings import SUFFIXES, read_listing
from pipeline.audio.manifest import encode_id
from pipeline.audio.tables import read_tables
from pipeline.audio.tar_shards import read_shards
from pipeline.audio.walking import container_files, container_folder, require_folder, walk
from pipeline.errors import ManifestError
from pipeline.schema import Reason
from pipeline.store.storage import check_uri, join, open_store

logger = logging.getLogger(__name__)

LAYOUTS = ("folder", "listing", "webdataset", "parquet", "librispeech", "fsdd", "emodb")
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


def read_corpus(corpus: str, layout: str, audio_column: str | None = None) -> Iterator[Candidate]:
    """Read a corpus into candidates, in an order that depends on its content only.

    ==============  ================================================  ==================================
    layout          recordings                                        utterance_id
    ==============  ================================================  ==================================
    folder          every file that ends as audio does                path below the folder, no extension
    listing         rows of a CSV, TSV, JSONL or Parquet table        the table's, else from the path
    webdataset      members of ``.tar`` shards (``tar_shards.py``)    shard, ``/``, name without extension
    parquet         cells of Parquet files (``tables.py``)            the table's, else file, ``/``, row
    librispeech     ``[split/]speaker/chapter/*``, ``*.trans.txt``    file name: ``103-1240-0000``
    fsdd            ``{digit}_{speaker}_{take}.wav``; takes 0-4 test  file name: ``7_george_12``
    emodb           actor, sentence, emotion, version: ``03a01Fa``    file name
    ==============  ================================================  ==================================

    All ids pass through ``encode_id``. ``a.wav`` beside ``a.flac`` are two candidates with one id.

    Args:
        corpus: Folder, listing, Parquet file or pattern of tars, a local path or ``s3://``.
        layout: One of ``LAYOUTS``.
        audio_column: Column of audio of the layout parquet; None finds it.

    Returns:
        Candidates; those with a ``problem`` are to be rejected for it.

    Raises:
        ManifestError: The corpus is absent, empty, unreadable in part, or not in this layout. A fault found only
            while reading is raised from the iterator.
    """
    corpus = _absolute(corpus)
    if layout == "listing":
        _require_listing(corpus)
        return read_listing(corpus)
    if layout in ("webdataset", "parquet"):
        files = container_files(corpus, layout)
        return read_shards(corpus, files) if layout == "webdataset" else read_tables(corpus, files, audio_column)
    labellers: dict[str, Callable[[str], _Labeller]] = {
        "folder": lambda _: lambda candidate, _path: candidate,
        "librispeech": _librispeech,
        "fsdd": lambda _: _fsdd,
        "emodb": lambda _: _emodb,
    }
    if layout not in labellers:
        raise ManifestError(f"a corpus has the layout {', '.join(LAYOUTS)}; got {layout!r}")
    require_folder(corpus)
    return _read_folder(corpus, layout, labellers[layout](corpus))


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


def _read_folder(corpus: str, layout: str, label: _Labeller) -> Iterator[Candidate]:
    found = unlabelled = 0
    for path in _recordings(corpus):
        found += 1
        candidate = _plain(corpus, path)
        labelled = candidate if candidate.problem else label(candidate, path)
        unlabelled += labelled is None
        yield labelled or candidate
    if not found:
        raise ManifestError(f"{corpus} holds no recordings ({', '.join(EXTENSIONS)}), or does not exist")
    if unlabelled == found and layout != "folder":
        raise ManifestError(
            f"none of the {found} recordings under {corpus} is named as in the layout {layout}; use the layout folder"
        )
    if unlabelled:
        logger.warning("%d of %d recordings are not named as in the layout %s", unlabelled, found, layout)


def _plain(corpus: str, path: str) -> Candidate:
    """Make a candidate of which only the path is known."""
    uri = join(corpus, path)
    problem = None
    if not storable(uri):
        problem = (Reason.BAD_ROW.value, "the path has a line break, a NUL or bytes that are not UTF-8; rename it")
    return Candidate(utterance_id=encode_id(stem(path)), uri=printable(uri), problem=problem)


def _recordings(corpus: str) -> Iterator[str]:
    """Give the paths of all recordings below a corpus, and log what else was there."""
    others = 0
    for path in walk(corpus):
        if path.lower().endswith(EXTENSIONS):
            yield path
        else:
            others += 1
    if others:
        logger.info("%s: %d files with other endings than audio's are not recordings", corpus, others)


def _librispeech(corpus: str) -> _Labeller:
    store = open_store(corpus)
    chapter: tuple[str, dict[str, str]] = ("", {})

    def label(candidate: Candidate, path: str) -> Candidate | None:
        nonlocal chapter
        *folders, file = path.split("/")
        name = stem(file)
        match = _LIBRISPEECH.fullmatch(name)
        if match is None or list(match.groups()) != folders[-2:]:
            return None
        transcripts = "/".join([*folders, f"{match[1]}-{match[2]}.trans.txt"])
        if transcripts != chapter[0]:
            try:
                chapter = transcripts, _transcripts(store.read(transcripts))
            except FileNotFoundError:
                chapter = transcripts, {}
            except UnicodeDecodeError as error:
                raise ManifestError(f"{join(corpus, transcripts)} is not UTF-8 text: {error}") from error
        return replace(
            candidate,
            utterance_id=encode_id(name),
            text=chapter[1].get(name),
            speaker=match[1],
            language="en",
            split=folders[-3] if len(folders) > 2 else corpus.rpartition("/")[2],
        )

    return label


def _transcripts(data: bytes) -> dict[str, str]:
    pairs = (line.partition(" ") for line in data.decode("utf-8").split("\n"))
    return {name: text.strip() for name, _, text in pairs if text.strip()}


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
