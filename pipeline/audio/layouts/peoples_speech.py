"""The People's Speech: ``<subset>.json`` of JSON lines, each the clips of one source, beside the folder of their audio.

    train/clean.json        {"identifier", ..., "training_data": {"duration_ms": [], "label": [], "name": []}}
    train/clean/<name>      also dirty, clean_sa, dirty_sa; validation/validation.json, test/test.json

Source: Galvez et al. 2021, The People's Speech: a large-scale diverse English speech recognition dataset for commercial
usage; huggingface.co/datasets/MLCommons/peoples_speech. Memory: a line, of at most 32 Mi characters; see also
``ground.py``.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.absent_table import without_table
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.ground import Ground, NamedFiles, count_unnamed, survey, usable
from pipeline.audio.lines import Lines
from pipeline.audio.rows import json_row
from pipeline.audio.walking import require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join

_SPLITS = {
    **dict.fromkeys(("clean", "clean_sa", "dirty", "dirty_sa"), "train"),
    "validation": "validation",
    "test": "test",
}
# A line is all clips of a source, which may be of many hours.
_MAX_LINE = 32 << 20
_LISTS = ("label", "name", "duration_ms")
_FIELDS = {name: (name,) for name in ("training_data", *_LISTS)}


def read_peoples_speech(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called by its subset and its file: ``clean/<name>``."""
    require_folder(corpus)
    ground = survey(corpus, lambda path: _subset(path) is not None, _folders_of)
    if not ground.tables:
        raise without_table(corpus, "peoples-speech", "train/clean.json", passed_over)
    refusal = (
        f"{corpus} holds no recordings that its {len(ground.tables)} tables name; unpack the tars of train/clean.json "
        "into train/clean/, and so on"
    )
    return usable(_Reader(corpus, ground, passed_over).candidates(), refusal, passed_over)


def _subset(path: str) -> str | None:
    name, ending = posixpath.splitext(posixpath.basename(path))
    return name if ending == ".json" and name in _SPLITS else None


def _folders_of(path: str) -> Iterator[str]:
    """Name the folders of subsets in which a recording lies."""
    folders = path.split("/")[:-1]
    for depth, folder in enumerate(folders, 1):
        if folder in _SPLITS:
            yield "/".join(folders[:depth])


class _Reader:
    """One reading of the corpus."""

    def __init__(self, corpus: str, ground: Ground, passed_over: PassedOver) -> None:
        self._corpus, self._ground, self._passed_over = corpus, ground, passed_over
        self._named = NamedFiles()

    def candidates(self) -> Iterator[Candidate]:
        for table in self._ground.tables:
            yield from self._of_table(table)
        count_unnamed(self._corpus, self._ground, self._named, self._passed_over)

    def _of_table(self, table: str) -> Iterator[Candidate]:
        columns = UnreadColumns(_FIELDS)
        with opened(join(self._corpus, table)) as file:
            for number, line in Lines(file, returns=False, longest=_MAX_LINE).numbered():
                name, where = f"{table}@row{number}", f"line {number} of {table}"
                try:
                    clips = _clips(json_row(line), columns)
                except AudioDecodeError as error:
                    yield refused(name, "", where, error)
                    continue
                for clip, (label, file_name) in enumerate(clips, 1):
                    place = f"clip {clip} of {where}"
                    if not isinstance(file_name, str) or not file_name:
                        bad = AudioDecodeError(Reason.BAD_ROW, "its name is no text")
                        yield refused(f"{name}.{clip}", "", place, bad)
                    elif candidate := self._clip(table, file_name, label, place):
                        yield candidate
        columns.count(self._passed_over, table)

    def _clip(self, table: str, name: str, label: Any, where: str) -> Candidate | None:
        """Make the candidate of a clip; None where its subset was not fetched."""
        folder, subset = table.removesuffix(".json"), _subset(table) or ""
        path = posixpath.join(folder, name)
        if self._ground.lacks(path):
            self._passed_over.add(Kind.UNMATCHED_IDS, example=path, name=table)
            return None
        self._named.add(path)
        labels = {"text": label, "language": "en", "split": _SPLITS[subset]}
        below = stem(posixpath.normpath(name))
        return entry(f"{subset}/{below}", name, join(self._corpus, folder), where, labels=labels)


def _clips(row: Mapping[str, Any] | str, columns: UnreadColumns) -> list[tuple[Any, Any]]:
    """Read the label and the name of each clip of a line."""
    if isinstance(row, str):
        raise AudioDecodeError(Reason.BAD_ROW, row)
    columns.see(row)
    data = row.get("training_data")
    if not isinstance(data, dict):
        raise AudioDecodeError(Reason.BAD_ROW, "it has no object training_data")
    columns.see(data)
    labels, names = data.get("label"), data.get("name")
    if not isinstance(labels, list) or not isinstance(names, list) or len(labels) != len(names):
        raise AudioDecodeError(Reason.BAD_ROW, "label and name of its training_data are not lists of one length")
    return list(zip(labels, names, strict=True))
