"""Emilia, in both forms: JSON lines beside folders of MP3, or tars of MP3 and JSON.

    EN/EN_B00000.jsonl      {"id", "wav": "EN_B00000/EN_B00000_S00000/mp3/EN_B00000_S00000_W000000.mp3", "text", ...}
    EN/EN-B000000.tar       EN_B00000_S00000_W000000.mp3, EN_B00000_S00000_W000000.json ...

The corpus has no splits. Texts are as it has them, with the blank with which many begin.

Source: He et al. 2024, Emilia: an extensive, multilingual, and diverse speech dataset for large-scale speech
generation; huggingface.co/datasets/amphion/Emilia-Dataset. Memory: a line; see also ``ground.py``, ``tar_shards.py``.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.ground import Ground, NamedFiles, count_unnamed, survey, usable
from pipeline.audio.lines import Lines
from pipeline.audio.manifest import encode_id
from pipeline.audio.rows import json_row
from pipeline.audio.tar_shards import read_shards
from pipeline.audio.walking import container_files, container_folder, require_folder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join

_TABLES = (".jsonl", ".jsonl.gz")
_BATCH = re.compile(r"[A-Z]+_B[0-9]+")
_FIELDS = {name: (name,) for name in ("id", "wav", "text", "speaker", "language", "duration")}


def read_emilia(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus: its folder, or tars as in the layout webdataset; an utterance is called by its ``id``."""
    if container_folder(corpus) == corpus:
        require_folder(corpus)
        ground = survey(corpus, lambda path: path.lower().endswith(_TABLES), _folders_of)
        if ground.tables:
            refusal = (
                f"{corpus} holds no recordings that its {len(ground.tables)} tables name; unpack EN_B00000.tar.gz "
                "beside EN_B00000.jsonl, and so on"
            )
            return usable(_read_lines(corpus, ground, passed_over), refusal, passed_over)
    return _read_tars(corpus, container_files(corpus, "webdataset", passed_over), passed_over)


def _read_tars(corpus: str, files: list[str], passed_over: PassedOver) -> Iterator[Candidate]:
    for candidate in read_shards(corpus, files, passed_over):
        if candidate.member is None:
            yield candidate
            continue
        yield replace(
            candidate,
            utterance_id=encode_id(stem(posixpath.basename(candidate.member))),
            language=candidate.language.lower() if candidate.language else None,
        )


def _read_lines(corpus: str, ground: Ground, passed_over: PassedOver) -> Iterator[Candidate]:
    named = NamedFiles()
    for table in ground.tables:
        yield from _table(corpus, table, ground, named, passed_over)
    count_unnamed(corpus, ground, named, passed_over)


def _folders_of(path: str) -> Iterator[str]:
    """Name the batch in which a recording lies: a folder that is fetched as one archive."""
    folders = path.split("/")[:-1]
    for depth, folder in enumerate(folders, 1):
        if _BATCH.fullmatch(folder):
            yield "/".join(folders[:depth])


def _table(corpus: str, table: str, ground: Ground, named: NamedFiles, passed_over: PassedOver) -> Iterator[Candidate]:
    columns = UnreadColumns(_FIELDS)
    folder = posixpath.dirname(table)
    with opened(join(corpus, table)) as file:
        for number, line in Lines(file, returns=False).numbered():
            row = json_row(line)
            name, written, where = f"{table}@row{number}", "", f"line {number} of {table}"
            try:
                if isinstance(row, str):
                    raise AudioDecodeError(Reason.BAD_ROW, row)
                columns.see(row)
                name = fields.label(row, ("id",), "utterance_id") or name
                written = fields.label(row, ("wav",), "uri") or ""
                if not written or name.endswith(f"@row{number}"):
                    raise AudioDecodeError(Reason.BAD_ROW, "it has no id or no wav")
                path = posixpath.normpath(posixpath.join(folder, written))
                if ground.lacks(path):
                    passed_over.add(Kind.UNMATCHED_IDS, example=f"{name} of {table}", name=table)
                    continue
                named.add(path)
                language = fields.label(row, ("language",), "language")
            except AudioDecodeError as error:
                yield refused(name, written, where, error)
                continue
            labels = {"text": row.get("text"), "speaker": row.get("speaker"), "language": language and language.lower()}
            yield entry(name, written, join(corpus, folder) if folder else corpus, where, labels=labels)
    columns.count(passed_over, table)
