"""Common Voice: a folder for each language, with tables of clips and the clips.

    cv-corpus-*/de/{train,dev,test}.tsv     client_id  path  sentence  ...  locale  segment
    cv-corpus-*/de/clips/common_voice_de_1.mp3

The corpus is a release, or the folder of one language. Read are the tables of the three splits. ``validated.tsv``
repeats their rows and holds more, which the corpus gives to no split: those clips are counted as files that no table
names, as are those of ``invalidated.tsv`` and ``other.tsv``. Columns differ between releases; quotes are part of a
sentence. Old releases leave ``.mp3`` away in the column path. The language is that of the column locale, else the
folder's name.

Source: Ardila et al. 2020, Common Voice: a massively-multilingual speech corpus. Memory: 8 bytes for
each row; on S3 all names.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.audio import fields
from pipeline.audio.candidate import EXTENSIONS, Candidate, printable, stem
from pipeline.audio.layouts.clips import Clips, find_clips
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.ground import NamedFiles
from pipeline.audio.lines import Lines
from pipeline.audio.rows import read_header, table_reader, table_rows
from pipeline.audio.walking import ending_of, pass_over_file, require_folder, there_is
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join

_TABLE = re.compile(r"((?:.*/)?)(train|dev|test)\.tsv")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "uri": ("path",),
    "speaker": ("client_id",),
    "text": ("sentence",),
    "language": ("locale",),
}
_LANGUAGE = re.compile(r"(?!cv-corpus)[a-z]{2,3}(?:-[A-Za-z]{2,8})*")
_CLIPS = "clips"


def read_commonvoice(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its clip: ``common_voice_de_1``."""
    require_folder(corpus)
    return _Release(corpus, passed_over).read()


class _Release:
    """The tables of a release, one after the other, and which clips they name."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._passed_over = corpus, passed_over
        self._clips: Clips = find_clips(corpus, _CLIPS, passed_over)
        self._named = NamedFiles()

    def read(self) -> Iterator[Candidate]:
        tables, folders = [], []
        for path in self._clips.outside():
            match = _TABLE.fullmatch(path)
            if path.endswith("/"):
                folders.append(path)
            elif match is not None:
                tables.append(match)
            elif path.lower().endswith(EXTENSIONS) and not path.rpartition("/")[2].startswith("."):
                # Rows name clips below their folder alone.
                self._passed_over.add(Kind.UNLISTED_FILES, example=path)
            else:
                pass_over_file(path, self._passed_over)
        if not tables:
            raise ManifestError(
                f"{self._corpus} holds no recordings in the layout commonvoice: there is no train.tsv, dev.tsv or "
                f"test.tsv{there_is(self._passed_over)}"
            )
        rows = 0
        for table in tables:
            for candidate in self._rows(table):
                rows += 1
                yield candidate
        if not rows:
            names = ", ".join(table[0] for table in tables)[:500]
            raise ManifestError(f"{self._corpus} holds no recordings: its tables ({names}) have no rows")
        for folder in folders:
            self._count(folder)

    def _rows(self, match: re.Match[str]) -> Iterator[Candidate]:
        table, folder, split = match[0], match[1], match[2]
        where = join(self._corpus, table)
        called = f"{self._corpus}/{folder}".rstrip("/").rpartition("/")[2]
        language = called if _LANGUAGE.fullmatch(called) else None
        with opened(where) as file:
            lines = Lines(file)
            reader = table_reader(lines, tabs=True)
            header = read_header(reader, where)
            _check(header, where)
            columns = UnreadColumns(_COLUMNS)
            columns.see(dict.fromkeys(header))
            columns.count(self._passed_over, table)
            for number, row in table_rows(reader, lines, header):
                yield self._candidate(f"line {number} of {table}", row, folder, split, language)

    def _candidate(
        self, where: str, row: dict[str, str] | str, folder: str, split: str, language: str | None
    ) -> Candidate:
        if isinstance(row, str) or not row["path"].strip():
            told = row if isinstance(row, str) else "no path to the clip"
            return refused(f"@{where}", "", where, AudioDecodeError(Reason.BAD_ROW, told))
        row = fields.untyped(row, _COLUMNS, self._passed_over)
        clip = row["path"] if row["path"].lower().endswith(EXTENSIONS) else f"{row['path']}.mp3"
        labels = {
            "text": row.get("sentence"),
            "speaker": row.get("client_id"),
            "language": row.get("locale") or language,
            "split": split,
        }
        for label, value in labels.items():
            if not value:
                self._passed_over.add(Kind.WITHOUT_LABEL, example=where, name=label)
        clips = f"{folder}{_CLIPS}/"
        self._named.add(clips + clip)
        return entry(stem(clip), clips + clip, self._corpus, where, labels=labels)

    def _count(self, folder: str) -> None:
        """Count the clips of a folder that no row names, and whatever else is there."""
        unlisted, hidden, others = 0, 0, Counter[str]()
        for path in self._clips.inside(folder):
            name = path.rpartition("/")[2]
            if name.startswith("."):
                hidden += 1
            elif name.lower().endswith(EXTENSIONS):
                unlisted += path not in self._named
            else:
                others[ending_of(name)] += 1
        # An example of one file would depend on the order in which a disk lists them.
        self._passed_over.add(Kind.HIDDEN_FILES, hidden, example=folder)
        for ending, number in sorted(others.items()):
            self._passed_over.add(Kind.OTHER_ENDINGS, number, example=folder, name=ending)
        self._passed_over.add(Kind.UNLISTED_FILES, unlisted, example=folder)


def _check(header: list[str], where: str) -> None:
    """Refuse a table that is none of Common Voice."""
    if not header:
        raise ManifestError(f"{where} is empty, so it is no table of Common Voice; take it away, or fetch it again")
    names = printable(", ".join(header))[:500]
    if not {"path", "sentence"} <= set(header):
        raise ManifestError(
            f"{where} is no table of Common Voice: it lacks the column path or sentence; it has: {names}"
        )
    if len(set(header)) < len(header):
        raise ManifestError(f"{where} names a column twice: {names}")
