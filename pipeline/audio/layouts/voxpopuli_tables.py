"""The tables of VoxPopuli: which there are, and what a row of each says.

Memory: a row.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, shown
from pipeline.audio.layouts.entries import refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.spans import span
from pipeline.audio.lines import Lines
from pipeline.audio.rows import TableReader, read_header, table_rows
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join

_PUBLISHED = re.compile(r"asr_([a-z]{2}(?:_accented)?)\.tsv(?:\.gz)?")
_CUT = re.compile(r"asr_(?:train|dev|test)\.tsv(?:\.gz)?")
_WINDOWS = re.compile(r"unlabelled_v2\.tsv(?:\.gz)?")
_PART = re.compile(r"[a-z]{2}(?:_accented)?")
_LANGUAGE = re.compile(r"[a-z]{2}")
_ACCENTED = "_accented"
_SPLITS = ("train", "dev", "test")

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "published": ("session_id", "id_", "start_time", "end_time", "speaker_id", "normed_text", "split"),
    "cut": ("id", "speaker_id", "normalized_text", "split"),
    "windows": ("event_id", "segment_no", "start", "end"),
}


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        path: Where it lies below the corpus.
        folder: The folder of it.
        kind: The published transcripts, those of cut recordings, or the stretches of unlabelled recordings.
        part: The part of the corpus that it is of, ``en`` or ``en_accented``; empty where it names none.
    """

    path: str
    folder: str
    kind: Literal["published", "cut", "windows"]
    part: str

    @property
    def language(self) -> str | None:
        """Give an ISO 639 code, where all of it is in one language."""
        return self.part.removesuffix(_ACCENTED) or None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        name: What the utterance is called.
        where: What names the row for a person.
        session: The recording that it is of; it begins with the year.
        language: An ISO 639 code.
        labels: The labels of the utterance.
        span: Where it lies in the recording; empty where it is the whole.
    """

    name: str
    where: str
    session: str
    language: str | None
    labels: Mapping[str, str | None]
    span: Mapping[str, float] = field(default_factory=dict)


def table_of(path: str, corpus_name: str) -> Table | None:
    """Say which table a file is by its name; None for none.

    Args:
        path: Its path below the corpus.
        corpus_name: The name of the corpus folder, in which cut recordings of one language may lie.
    """
    folder, _, name = path.rpartition("/")
    if match := _PUBLISHED.fullmatch(name):
        return Table(path, folder, "published", match[1])
    if _CUT.fullmatch(name):
        part = posixpath.basename(folder) or corpus_name
        return Table(path, folder, "cut", part if _PART.fullmatch(part) else "")
    return Table(path, folder, "windows", "") if _WINDOWS.fullmatch(name) else None


def rows(corpus: str, table: Table, passed_over: PassedOver) -> Iterator[Row | Candidate]:
    """Read a table.

    Args:
        corpus: The folder.
        table: One of its tables.
        passed_over: Counts columns and rows that are not read.

    Returns:
        Its rows, in its order; one that cannot be used as a candidate with a problem.

    Raises:
        ManifestError: It cannot be read, or lacks a column.
    """
    wanted = _COLUMNS[table.kind]
    columns = UnreadColumns({name: (name,) for name in wanted})
    with opened(join(corpus, table.path)) as file:
        lines = Lines(file)
        # The published transcripts are separated by bars and may have quotes; what scripts wrote has tabs and none.
        bars = "|" in lines.peek()
        reader = TableReader(lines, "|" if bars else "\t", quotes=bars)
        header = read_header(reader, table.path)
        if not header:
            raise ManifestError(f"the table {join(corpus, table.path)} is empty; it must name its columns")
        if lacking := [name for name in wanted if name not in header]:
            raise ManifestError(
                f"the table {join(corpus, table.path)} lacks the columns {', '.join(lacking)}; it is none of VoxPopuli"
            )
        columns.see(dict.fromkeys(header))
        # No text of the corpus has a line break, so one in a cell is a quote that was left open.
        read = table_rows(reader, lines, header, passed_over=passed_over, table=table.path, breaks=False)
        for number, cells in read:
            where = f"line {number} of {table.path}"
            try:
                if isinstance(cells, str):
                    raise AudioDecodeError(Reason.BAD_ROW, cells)
                if table.kind == "published" and cells["split"] not in _SPLITS:
                    passed_over.add(Kind.UNREAD_LINES, example=where, name=f"split {cells['split']}")
                    continue
                fields.untyped(cells, {"speaker": ("speaker_id",)}, passed_over)
                yield _row(table, cells, where)
            except AudioDecodeError as error:
                yield refused(f"{table.path}@row{number}", "", where, error)
    columns.count(passed_over, table.path)


def _row(table: Table, cells: Mapping[str, str], where: str) -> Row:
    if table.kind == "windows":
        session = _name(cells, "event_id")
        language = session.rpartition("_")[2]
        if not _LANGUAGE.fullmatch(language):
            raise AudioDecodeError(Reason.BAD_ROW, f"event_id must end in a language, got {shown(session)}")
        return Row(
            name=f"{session}_{_name(cells, 'segment_no')}",
            where=where,
            session=session,
            language=language,
            labels={"language": language},
            span=span(cells["start"], cells["end"]),
        )
    labels: dict[str, str | None] = {"speaker": cells["speaker_id"], "split": cells["split"]}
    labels["language"] = table.language
    if table.kind == "cut":
        name, labels["text"] = _name(cells, "id"), cells["normalized_text"]
        return Row(name=name, where=where, session=name, language=table.language, labels=labels)
    session, labels["text"] = _name(cells, "session_id"), cells["normed_text"]
    return Row(
        name=f"{session}-{_name(cells, 'id_')}",
        where=where,
        session=session,
        language=table.language,
        labels=labels,
        span=span(cells["start_time"], cells["end_time"]),
    )


def _name(cells: Mapping[str, str], column: str) -> str:
    """Read a part of a name, which is also part of a path."""
    value = fields.label(cells, (column,), "utterance_id")
    if value is None or "/" in value:
        raise AudioDecodeError(Reason.BAD_ROW, f"{column} is empty or holds a slash")
    return value
