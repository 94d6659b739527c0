"""Libri-Light: ``[set/]speaker/book/*.flac`` of up to hours, each with a ``.json`` of the same name.

    {"speaker": "960", "book_meta": {...}, "snr": 5.4, "voice_activity": [[0.4, 12.32], ...]}

Voice activity is in seconds, rising. Each of its stretches is an utterance, named by its place in the recording. There
are no texts.

Source: Kahn et al. 2020, Libri-Light: a benchmark for ASR with limited or no supervision,
https://github.com/facebookresearch/libri-light. Memory: the JSON of a book.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import EXTENSIONS, Candidate, shown, stem
from pipeline.audio.layouts.beside import read_beside
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.manifest import encode_id
from pipeline.audio.segments import segment_id
from pipeline.audio.walking import require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_DEPTH = 2
_ENDING = ".json"
_SET = re.compile(r"small|medium|large|unlab-.*")


def read_librilight(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called ``speaker/book/file@start-end``, in milliseconds."""
    require_folder(corpus)
    books = _Books(corpus, passed_over)
    return read_walked(corpus, "librilight", books.label, passed_over, used=books.used)


class _Books:
    """The JSON of the recordings, a book at a time."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._store, self._passed_over = corpus, open_store(corpus), passed_over
        name = corpus.rpartition("/")[2]
        self._split = name if _SET.fullmatch(name) else None
        self._folder = ""
        self._described: dict[str, bytes] = {}
        self._recordings: set[str] = set()

    def label(self, candidate: Candidate, path: str) -> Iterator[Candidate] | Candidate | None:
        """Cut a recording into its stretches of voice; None where it does not lie in a book of a speaker."""
        *folders, file = path.split("/")
        if len(folders) < _DEPTH or not folders[-2].isdecimal():
            return None
        self._turn_to("/".join(folders))
        part = folders[-3] if len(folders) > _DEPTH else self._split
        if part is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="split")
        recording = replace(
            candidate,
            utterance_id=encode_id("/".join([*folders[-_DEPTH:], stem(file)])),
            speaker=folders[-2],
            language="en",
            split=part,
        )
        try:
            return self._cut(recording, stem(file))
        except AudioDecodeError as error:
            detail = f"{join(self._corpus, stem(path))}{_ENDING}: {error.detail}"
            return replace(recording, problem=(str(error.reason), detail))

    def used(self, path: str) -> bool:
        """Say whether a file that is no recording describes one; JSON without a recording is counted."""
        folder, _, file = path.rpartition("/")
        if not file.endswith(_ENDING) or file.startswith(".") or not folder.rpartition("/")[0]:
            return False
        self._turn_to(folder)
        if not self._recordings:
            return False
        if file.removesuffix(_ENDING) not in self._recordings:
            self._passed_over.add(Kind.UNMATCHED_IDS, example=path, name=_ENDING)
        return True

    def _turn_to(self, folder: str) -> None:
        if folder != self._folder:
            self._folder = folder
            self._described = read_beside(self._store, folder, _ENDING)
            names = self._store.names(folder)
            self._recordings = {stem(name) for name in names if name.lower().endswith(EXTENSIONS)}

    def _cut(self, recording: Candidate, name: str) -> Iterator[Candidate]:
        """Read the JSON of a recording.

        Raises:
            AudioDecodeError: There is none, it cannot be read, or says that nobody speaks.
        """
        content = self._described.get(name)
        if content is None:
            raise AudioDecodeError(Reason.NO_SEGMENT, "it is not there, so nothing says where the voice is")
        try:
            described = fields.parse_json(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise AudioDecodeError(Reason.BAD_ROW, f"it is not JSON: {error}") from error
        if not isinstance(described, dict):
            raise AudioDecodeError(Reason.BAD_ROW, f"it must hold an object, got {shown(described)}")
        if "voice_activity" not in described:
            raise AudioDecodeError(Reason.BAD_ROW, "it has no voice_activity")
        stretches = described["voice_activity"]
        if not isinstance(stretches, list):
            raise AudioDecodeError(Reason.BAD_ROW, f"voice_activity must be a list, got {shown(stretches)}")
        if not stretches:
            raise AudioDecodeError(Reason.NO_SPEECH, "voice_activity is empty")
        speaker = fields.label(described, ("speaker",), "speaker") or recording.speaker
        where = f"voice_activity of {join(self._corpus, self._folder, name)}{_ENDING}"
        return _utterances(replace(recording, speaker=speaker), stretches, where)


def _utterances(recording: Candidate, stretches: list[Any], where: str) -> Iterator[Candidate]:
    last = 0.0
    for number, stretch in enumerate(stretches, 1):
        try:
            start, end = _times(stretch, last)
        except AudioDecodeError as error:
            name = recording.utterance_id + encode_id(f"@stretch{number}")
            problem = (str(error.reason), f"stretch {number} in {where}: {error.detail}")
            yield replace(recording, utterance_id=name, problem=problem)
            continue
        last = end
        name = segment_id(recording.utterance_id, start, end)
        yield replace(recording, utterance_id=name, offset_seconds=start, duration_seconds=end - start)


def _times(stretch: Any, last: float) -> tuple[float, float]:
    """Give start and end, seconds, of a stretch that must begin after the last one."""
    numbers = [_seconds(value) for value in stretch] if isinstance(stretch, list) else []
    if len(numbers) != 2:
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"it must be a start and an end, got {shown(stretch)}")
    start, end = numbers
    # Also false of NaN.
    if not 0 <= start < end <= fields.MAX_SECONDS:
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"it starts at {start:g} s and ends at {end:g} s")
    if start < last:
        raise AudioDecodeError(Reason.BAD_SEGMENT, f"it starts at {start:g} s, but one before it ends at {last:g} s")
    return start, end


def _seconds(value: Any) -> float:
    """Read a number of seconds; NaN for what is none."""
    spelt = None if isinstance(value, str) else fields.spelt(value)
    return math.nan if spelt is None else float(spelt)
