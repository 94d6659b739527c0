"""VoxCeleb1 and VoxCeleb2: speech of celebrities from videos, a folder for each speaker and in it for each video.

    [dev|test]/wav/id10001/1zcIwhmdeo4/00001.wav        [dev|test]/aac/id00012/21Uxsk56VDQ/00001.m4a

An utterance is called ``id10001/1zcIwhmdeo4/00001``, as in the lists of trials but for their extension. Its split is
what the folder above says (``dev``, ``test``, also ``vox1_dev_wav``), else the column Set of ``vox1_meta.csv`` or
``vox2_meta.csv`` in the folder of the corpus, else that folder's own name. Languages are not told.

Source: Nagrani et al. 2017, VoxCeleb: a large-scale speaker identification dataset; Chung et al. 2018, VoxCeleb2: deep
speaker recognition. Memory: the speakers of the tables (7,363).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.files import opened
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.lines import Lines, count_twice
from pipeline.audio.manifest import encode_id
from pipeline.audio.rows import read_header, table_reader, table_rows
from pipeline.audio.walking import pass_over_file, require_folder
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_NAME = re.compile(r"(id[0-9]{5})/[A-Za-z0-9_-]+/[0-9]+")
_PART = re.compile(r"(?:vox[12]_)?(dev|test)(?:_(?:wav|aac|mp4))?")
_ENCODINGS = ("wav", "aac", "m4a", "mp4")
_TABLES = ("vox1_meta.csv", "vox2_meta.csv")
_SET = "Set"


def read_voxceleb(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; the speaker is called as the folder: ``id10001``."""
    require_folder(corpus)
    return _Speakers(corpus, passed_over).read()


class _Speakers:
    """What the tables say of the speakers."""

    def __init__(self, corpus: str, passed_over: PassedOver) -> None:
        self._corpus, self._passed_over = corpus, passed_over
        self._above = corpus.split("/")
        self._tables: list[str] = []
        self._splits: dict[str, str | None] = {}
        self._unmet: dict[str, str] = {}

    def read(self) -> Iterator[Candidate]:
        there = open_store(self._corpus).names()
        self._tables = [table for table in _TABLES if table in there]
        for table in self._tables:
            self._read_table(table)
        yield from read_walked(
            self._corpus,
            "voxceleb",
            self._label,
            self._passed_over,
            used=self._tables.__contains__,
            wanted=self._wanted,
        )
        for speaker, table in self._unmet.items():
            self._passed_over.add(Kind.UNMATCHED_IDS, example=f"{speaker} of {table}", name=table)

    def _read_table(self, table: str) -> None:
        """Read a table: of VoxCeleb1 separated by tabs, of VoxCeleb2 by commas, with blanks around cells."""
        where = join(self._corpus, table)
        with opened(where) as file:
            lines = Lines(file)
            reader = table_reader(lines, tabs="\t" in lines.peek())
            header = read_header(reader, where)
            if not header or not header[0].startswith("VoxCeleb"):
                raise ManifestError(f"{where} is no table of VoxCeleb's speakers: its first column is their ID")
            # Of columns of one name the first is read.
            places = {name: number for number, name in reversed(list(enumerate(header, 1)))}
            header = [name if places[name] == n else f"{name} (column {n})" for n, name in enumerate(header, 1)]
            names = {"speaker": (header[0],), "split": (_SET,)}
            columns = UnreadColumns(names)
            columns.see(dict.fromkeys(header))
            for number, row in table_rows(reader, lines, header):
                try:
                    if isinstance(row, str):
                        raise AudioDecodeError(Reason.BAD_ROW, row)
                    self._read_row(row, names, table, number)
                except AudioDecodeError as error:
                    example = f"line {number} of {table}: {error.detail}"
                    self._passed_over.add(Kind.UNREAD_LINES, example=example, name=table)
            columns.count(self._passed_over, where)

    def _read_row(self, row: dict[str, str], names: Mapping[str, tuple[str, ...]], table: str, number: int) -> None:
        """Read a row of a table.

        Raises:
            AudioDecodeError: It names no speaker, or a label cannot be used.
        """
        cells = {name: cell.strip() for name, cell in row.items()}
        fields.untyped(cells, names, self._passed_over)
        speaker, split = (fields.label(cells, names[field], field) for field in ("speaker", "split"))
        if speaker is None:
            raise AudioDecodeError(Reason.BAD_ROW, "it names no speaker")
        if speaker in self._splits:
            count_twice(self._passed_over, f"line {number} of {table}")
            return
        self._unmet[speaker] = table
        self._splits[speaker] = split

    def _wanted(self, path: str) -> bool:
        if path.rpartition("/")[2].startswith("."):
            pass_over_file(path, self._passed_over)
            return False
        return True

    def _label(self, candidate: Candidate, path: str) -> Candidate | None:
        folders = path.split("/")[:-1]
        parts = [*self._above, *path.split("/")]
        match = _NAME.fullmatch(stem("/".join(parts[-3:])))
        if match is None:
            return None
        self._unmet.pop(match[1], None)
        split = _part(folders[:-2]) or self._splits.get(match[1]) or _part([self._above[-1], *folders[:-2]])
        if split is None:
            self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="split")
        return replace(candidate, utterance_id=encode_id(match[0]), speaker=match[1], split=split)


def _part(folders: list[str]) -> str | None:
    """Read the split off the folders above that of a speaker."""
    for folder in folders[:-3:-1]:
        part = _PART.fullmatch(folder)
        if part is not None:
            return part[1]
        if folder not in _ENCODINGS:
            return None
    return None
