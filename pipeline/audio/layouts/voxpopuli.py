"""VoxPopuli: recordings of the European Parliament, as they were published or as the corpus's own scripts cut them.

    raw_audios/original/2018/<session>_original.ogg         whole sessions, cut here by the tables below
    raw_audios/en/2018/<event>.ogg                          the same for one language; an event ends in _en
    [transcribed_data/en/]asr_en.tsv.gz                     bars between columns: id_, session_id, start_time, split ...
    [unlabelled_data/]unlabelled_v2.tsv.gz                  tabs: event_id, segment_no, start, end
    transcribed_data/en/asr_{train,dev,test}.tsv            what get_asr_data wrote, without quotes: id, speaker_id ...
    transcribed_data/en/2018/<session>-<id_>.ogg            and cut
    unlabelled_data/en/2018/<event>_<segment_no>.ogg        what get_unlabelled_data cut

What was cut goes before what could be: then the published table of that language is not read. Where a recording is cut
here, from start_time to end_time, the pauses stay that get_asr_data leaves out (column vad).

Source: Wang et al. 2021, VoxPopuli: a large-scale multilingual speech corpus for representation learning,
semi-supervised learning and interpretation; github.com/facebookresearch/voxpopuli. Memory: a row; see ``ground.py``.
"""

import posixpath
import re
from collections.abc import Iterator

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.absent_table import without_table
from pipeline.audio.layouts.entries import entry
from pipeline.audio.layouts.ground import NamedFiles, survey, unnamed, usable
from pipeline.audio.layouts.voxpopuli_tables import Row, Table, rows, table_of
from pipeline.audio.walking import require_folder
from pipeline.passed_over import Kind, PassedOver

_RAW = "raw_audios"
_ORIGINAL = "original"
_CUT_FOLDER = re.compile(r"(?:.*/)?unlabelled_data/([a-z]{2})/[0-9]{4}")
_CUT_NAME = re.compile(r".+_([a-z]{2})_[0-9]+")


def read_voxpopuli(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its scripts call it: ``<session>-<id_>``, ``<event>_<segment_no>``."""
    require_folder(corpus)
    reader = _Reader(corpus, passed_over)
    refusal = (
        f"{corpus} holds no recordings that its tables name; they lie in {_RAW}/{_ORIGINAL}/<year>/, "
        f"{_RAW}/<language>/<year>/ or beside the tables"
    )
    return usable(reader.candidates(), refusal, passed_over)


class _Reader:
    """One reading of the corpus."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._passed_over = corpus, passed_over
        self._name = corpus.rpartition("/")[2]
        self._ground = survey(corpus, lambda path: self._table(path) is not None, _parts_of)
        self._named = NamedFiles()
        tables = [self._table(path) for path in self._ground.tables]
        self._tables = [table for table in tables if table is not None]
        self._transcribed = {table.part for table in self._tables if table.kind == "cut"}
        cut = (_CUT_FOLDER.fullmatch(f"{self._name}/{folder}") for folder in self._ground.folders)
        self._unlabelled = {folder[1] for folder in cut if folder}
        if not self._tables and not self._unlabelled:
            raise without_table(corpus, "voxpopuli", "asr_<language>.tsv.gz or unlabelled_v2.tsv.gz", passed_over)

    def candidates(self) -> Iterator[Candidate]:
        for table in self._tables:
            if table.kind != "published" or table.part not in self._transcribed:
                yield from self._of_table(table)
        for path in unnamed(self._corpus, self._ground, self._named, self._passed_over):
            folder, name = posixpath.split(path)
            place, event = _CUT_FOLDER.fullmatch(f"{self._name}/{folder}"), _CUT_NAME.fullmatch(stem(name))
            if place and event and place[1] == event[1]:
                yield entry(stem(name), path, self._corpus, path, labels={"language": place[1]})
            else:
                self._passed_over.add(Kind.UNLISTED_FILES, example=path)

    def _table(self, path: str) -> Table | None:
        return table_of(path, self._name)

    def _of_table(self, table: Table) -> Iterator[Candidate]:
        for row in rows(self._corpus, table, self._passed_over):
            if isinstance(row, Candidate):
                yield row
                continue
            if table.kind == "windows" and row.language in self._unlabelled:
                continue
            path = self._path(table, row)
            if self._ground.lacks(path):
                self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{row.name} of {table.path}", name=table.path)
                continue
            self._named.add(path)
            yield entry(row.name, path, self._corpus, row.where, labels=row.labels, **row.span)

    def _path(self, table: Table, row: Row) -> str:
        """Say where the recording of a row lies, below the corpus."""
        year = row.session[:4]
        if table.kind == "cut":
            return posixpath.join(table.folder, year, f"{row.name}.ogg")
        if table.kind == "windows":
            return f"{_RAW}/{row.language}/{year}/{row.session}.ogg"
        original = f"{_RAW}/{_ORIGINAL}/{year}/{row.session}_{_ORIGINAL}.ogg"
        channel = f"{_RAW}/{row.language}/{year}/{row.session}_{row.language}.ogg"
        return channel if self._ground.lacks(original) and not self._ground.lacks(channel) else original


def _parts_of(path: str) -> Iterator[str]:
    """Name the folder of a recording; below raw_audios also whether it is of a plenary: archives are apart by that."""
    folder, _, name = path.rpartition("/")
    yield folder
    if folder.startswith(f"{_RAW}/"):
        yield f"{folder}/{'PLENARY' if 'PLENARY' in name else 'other'}"
