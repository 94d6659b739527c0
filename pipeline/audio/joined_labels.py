"""Labels that people keep beside a corpus: a table that is joined to its utterances by id.

A value of the table counts before the corpus's own, and a missing one leaves that as it is. An id of the table is an
utterance_id or what one encodes (``alignment.Names``), with or without the ending of a recording: ``a/b`` and
``a/b.wav`` are the utterance ``a._b``. In CSV, which has no types, ``1089.0`` is also the utterance ``1089``.
Utterances that a later step names (channels, speech that VAD finds) get the labels of their recording.
Memory: the table as Arrow columns, and about 200 bytes an utterance while ids are matched.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.audio import fields
from pipeline.audio.alignment import Names
from pipeline.audio.candidate import Candidate, printable, stem
from pipeline.audio.label_settings import DEFAULT_KEY
from pipeline.audio.lines import Lines
from pipeline.audio.listings import COLUMNS, read_labels
from pipeline.audio.manifest import duplicate_rows
from pipeline.audio.rows import json_row, read_header, table_reader, table_rows
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import LABELS
from pipeline.store.storage import absolute, check_uri, open_store

_BATCH = 10_000
_ENTRIES = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        # Texts of a large corpus together pass 2 GB.
        *(pa.field(name, pa.large_string()) for name in LABELS),
    ]
)
_FLOAT = ".0"
_Row = tuple[int, Mapping[str, Any] | str]
"""The number of a row or line, from 1, and its values by column; or what is wrong with it."""


class JoinedLabels:
    """A table of labels, and the ids of the utterances that it is joined to."""

    def __init__(self, table: str, key: str, passed_over: PassedOver) -> None:
        """Read the table.

        Args:
            table: The file, a local path or ``s3://``.
            key: Its column of ids.
            passed_over: Counts columns that are not read.

        Raises:
            SettingsError: Its place carries credentials.
            ManifestError: It is absent, damaged or empty, has no column of ids or none of labels, a row cannot be
                used, or two rows have one id.
        """
        check_uri(table, "the table of labels")
        self._table = absolute(table)
        names = COLUMNS["utterance_id"] if key == DEFAULT_KEY else (key,)
        labels = {label: tuple(name for name in COLUMNS[label] if name not in names) for label in LABELS}
        self._columns = {"utterance_id": names, **labels}
        self._ids: list[pa.Array] = []
        self._entries = self._read(passed_over)
        self._refuse_twins(self._entries["id"], self._entries)

    def meet(self, candidates: Iterator[Candidate]) -> Iterator[Candidate]:
        """Note the ids of all utterances of the corpus, those too that are left out afterwards."""
        batch: list[str] = []
        for candidate in candidates:
            batch.append(candidate.utterance_id)
            if len(batch) == _BATCH:
                self._ids.append(pa.array(batch, pa.string()))
                batch = []
            yield candidate
        self._ids.append(pa.array(batch, pa.string()))

    def fill(self, pieces: Sequence[pa.Table], passed_over: PassedOver) -> list[pa.Table]:
        """Give candidates with the labels of the table.

        Args:
            pieces: Candidates, among those that were met.
            passed_over: Counts entries that meet no utterance, and utterances that meet no entry.

        Raises:
            ManifestError: No entry meets any utterance, or two meet the same one.
        """
        found = self._found()
        matched = self._entries.append_column("utterance_id", found).filter(pc.is_valid(found))
        if not matched.num_rows:
            first = next(name for ids in self._ids for name in ids.slice(0, 1).to_pylist())
            raise ManifestError(
                f"no id of the labels {self._table} is that of an utterance: it has "
                f"{printable(self._entries['id'][0].as_py())[:200]!r}, the corpus {first!r}; name the column of ids "
                "with --key"
            )
        self._refuse_twins(matched["utterance_id"], matched)
        strangers = self._entries["id"].filter(pc.is_null(found))
        if len(strangers):
            passed_over.add(Kind.UNMATCHED_IDS, len(strangers), example=strangers[0].as_py(), name="labels")
        values = {name: matched[name].combine_chunks() for name in ("utterance_id", *LABELS)}
        ids = pa.chunked_array([chunk for piece in pieces for chunk in piece["utterance_id"].chunks], pa.string())
        every = pc.index_in(ids, value_set=values["utterance_id"]).combine_chunks()
        filled, begin = [], 0
        for piece in pieces:
            places = every.slice(begin, piece.num_rows)
            begin += piece.num_rows
            # A candidate with a reason is rejected whatever its labels are.
            lacking = piece["utterance_id"].filter(pc.and_(pc.is_null(places), pc.is_null(piece["reason"])))
            if len(lacking):
                passed_over.add(Kind.WITHOUT_LABEL, len(lacking), example=lacking[0].as_py(), name="labels")
            for name in LABELS:
                column = piece.schema.get_field_index(name)
                given = pc.coalesce(values[name].take(places).cast(pa.string()), piece[name])
                piece = piece.set_column(column, piece.schema.field(column), given)
            filled.append(piece)
        return filled

    def _found(self) -> pa.Array:
        """Give the utterance_id that each entry means, null where there is none."""
        utterances = Names([name for ids in self._ids for name in ids.to_pylist()])
        written = self._entries["id"].combine_chunks()
        found = utterances.find(written)
        bare = pa.array([stem(name) for name in written.to_pylist()], pa.string())
        found = pc.coalesce(found, utterances.find(bare))
        if not self._table.lower().endswith((".csv", ".tsv")):
            return found
        whole = pa.array([_whole(name) for name in written.to_pylist()], pa.string())
        return pc.coalesce(found, utterances.find(whole))

    def _refuse_twins(self, ids: pa.ChunkedArray, entries: pa.Table) -> None:
        first = duplicate_rows(ids)
        later = next((row for row, before in enumerate(first.tolist()) if before >= 0), None)
        if later is not None:
            one, two = (entries.slice(row, 1).to_pylist()[0] for row in (int(first[later]), later))
            written = "" if one["id"] == two["id"] else f", written {one['id']!r} and {two['id']!r}"
            raise ManifestError(
                f"the labels {self._table} have two entries for {printable(ids[later].as_py())!r}: {self._unit} "
                f"{one['line']} and {self._unit} {two['line']}{printable(written)}; keep one of them"
            )

    @property
    def _unit(self) -> str:
        return "row" if self._table.lower().endswith(".parquet") else "line"

    def _read(self, passed_over: PassedOver) -> pa.Table:
        folder, _, name = self._table.rpartition("/")
        columns = UnreadColumns(self._columns)
        tables, batch = [], []
        try:
            with open_store(folder or "/").open(name) as file:
                for number, row in self._rows(file, columns, passed_over):
                    batch.append(self._entry(number, row, folder or "/"))
                    if len(batch) == _BATCH:
                        tables.append(pa.Table.from_pylist(batch, schema=_ENTRIES))
                        batch = []
        except FileNotFoundError as error:
            raise ManifestError(f"there is no table of labels {self._table}") from error
        except (OSError, UnicodeError, csv.Error, pa.ArrowException) as error:
            raise ManifestError(f"the labels {self._table} cannot be read: {error}") from error
        tables.append(pa.Table.from_pylist(batch, schema=_ENTRIES))
        columns.count(passed_over, self._table)
        entries = pa.concat_tables(tables)
        if not entries.num_rows:
            raise ManifestError(f"the labels {self._table} have no rows")
        return entries

    def _entry(self, number: int, row: Mapping[str, Any] | str, folder: str) -> dict[str, Any]:
        """Turn a row into an entry: one that cannot be used would leave its utterance unlabelled."""
        try:
            if isinstance(row, str):
                raise ManifestError(f"{self._unit} {number} of the labels {self._table}: {row}")
            given = fields.label(row, self._columns["utterance_id"], "utterance_id")
            known = {name: row.get(name) for names in self._columns.values() for name in names}
            labels = read_labels({**known, **dict.fromkeys(self._columns["utterance_id"])}, folder)
        except AudioDecodeError as error:
            raise ManifestError(f"{self._unit} {number} of the labels {self._table}: {error.detail}") from error
        if given is None:
            raise ManifestError(f"{self._unit} {number} of the labels {self._table} has no id ({self._key})")
        return {"line": number, "id": given, **labels}

    @property
    def _key(self) -> str:
        return " or ".join(self._columns["utterance_id"])

    def _rows(self, file: IO[bytes], columns: UnreadColumns, passed_over: PassedOver) -> Iterator[_Row]:
        name = self._table.lower()
        if name.endswith(".parquet"):
            return self._parquet_rows(file, columns)
        if name.endswith((".csv", ".tsv")):
            return self._csv_rows(Lines(file), columns, passed_over, tabs=name.endswith(".tsv"))
        # Between the words of JSON a carriage return is a blank.
        return self._json_rows(Lines(file, returns=False), columns)

    def _parquet_rows(self, file: IO[bytes], columns: UnreadColumns) -> Iterator[_Row]:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        self._require_columns(names)
        columns.see(dict.fromkeys(names))
        known = {name for options in self._columns.values() for name in options}
        batches = table.iter_batches(batch_size=_BATCH, columns=[name for name in names if name in known])
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)

    def _csv_rows(self, lines: Lines, columns: UnreadColumns, passed_over: PassedOver, *, tabs: bool) -> Iterator[_Row]:
        reader = table_reader(lines, tabs=tabs)
        header = read_header(reader, f"the labels {self._table}")
        self._require_columns(header)
        for number, row in table_rows(reader, lines, header):
            if not isinstance(row, str):
                columns.see(row)
            yield number, row if isinstance(row, str) else fields.untyped(row, self._columns, passed_over)

    def _json_rows(self, lines: Lines, columns: UnreadColumns) -> Iterator[_Row]:
        names: dict[str, None] = {}
        known = {name for options in self._columns.values() for name in options}
        for number, line in lines.numbered():
            row = json_row(line)
            if not isinstance(row, str):
                columns.see(row)
                # Objects may have names of their own each; those that are known are few.
                names.update(dict.fromkeys(name for name in row if name in known or not names))
            yield number, row
        if names:
            self._require_columns(list(names))

    def _require_columns(self, names: Sequence[str]) -> None:
        labels = [name for label in LABELS for name in self._columns[label]]
        for wanted, what in ((self._columns["utterance_id"], "ids"), (labels, "labels")):
            if not set(names) & set(wanted):
                told = "name it with --key; " if what == "ids" else ""
                raise ManifestError(
                    f"the labels {self._table} have no column of {what} ({', '.join(wanted)}); {told}they have: "
                    f"{printable(', '.join(names))[:500]}"
                )
        if len(set(names)) < len(names):
            raise ManifestError(f"the labels {self._table} name a column twice: {', '.join(names)}")


def _whole(name: str) -> str:
    """Spell an id that a program has written as a float without its point."""
    digits = name.removesuffix(_FLOAT)
    return digits if digits.isascii() and digits.isdigit() else name
