"""Alignments: labelled intervals of utterances, as of phones or words, and the label of each frame.

An utterance is named by its utterance_id, or by what that encodes, as a path: ``Names``.
Memory: a batch of the file, and the intervals of the utterances asked for. Shapes: T frames.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.fields import is_missing, spelt
from pipeline.audio.labels import Values
from pipeline.audio.manifest import MAX_ID_LENGTH, decode_id, encode_id
from pipeline.errors import SettingsError
from pipeline.store.storage import open_store


@dataclass(frozen=True)
class Alignment:
    """Labelled intervals of utterances in a CSV or Parquet file, read in batches.

    Attributes:
        uri: The file, local or s3://.
    """

    uri: str

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the file batch by batch.

        Raises:
            SettingsError: It is absent, lacks a column, or a value is no number where one is needed.
        """
        folder, _, name = self.uri.rpartition("/")
        names = schema.ALIGNMENT.names
        try:
            with open_store(folder).open(name) as file:
                # Further columns, as scores, are no part of an alignment.
                if name.endswith(".parquet"):
                    found = pq.ParquetFile(file).iter_batches(columns=names)
                else:
                    types = pacsv.ConvertOptions(
                        include_columns=names, column_types=schema.ALIGNMENT, strings_can_be_null=False
                    )
                    found = pacsv.open_csv(file, convert_options=types)
                for batch in found:
                    table = _labelled(pa.Table.from_batches([batch]).select(names))
                    yield from table.cast(schema.ALIGNMENT).to_batches()
        except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
            raise SettingsError(
                f"alignments {self.uri} cannot be read ({error}); it must be CSV with a header line, or Parquet, "
                f"with the columns {', '.join(names)}"
            ) from error

    def sha256(self) -> str:
        """Hash the file."""
        folder, _, name = self.uri.rpartition("/")
        with open_store(folder).open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def values(self) -> Values:
        """Collect all labels in one pass.

        Raises:
            SettingsError: The file cannot be read, is empty, or an interval ends before it begins.
        """
        found: Counter[str] = Counter()
        for batch in self.batches():
            wrong = np.flatnonzero(~(batch["start_seconds"].to_numpy() <= batch["end_seconds"].to_numpy()))
            if len(wrong):
                row = batch.slice(wrong[0], 1).to_pylist()[0]
                raise SettingsError(f"alignments {self.uri} have an interval that ends before it begins: {row}")
            found.update(batch["label"].to_pylist())
        if not found:
            raise SettingsError(f"alignments {self.uri} have no intervals")
        return Values.of("alignment", found)

    def intervals(self, utterance_ids: Collection[str], values: Values) -> dict[str, "Intervals"]:
        """Read the intervals of some utterances, in one pass over the file."""
        wanted = Names(utterance_ids)
        held = [wanted.rows_of(batch) for batch in self.batches()]
        rows = pa.Table.from_batches(held, schema.ALIGNMENT).sort_by(
            [("utterance_id", "ascending"), ("start_seconds", "ascending")]
        )
        names = rows["utterance_id"].to_pylist()
        starts, ends = rows["start_seconds"].to_numpy(), rows["end_seconds"].to_numpy()
        numbers = np.array([values.number(label) for label in rows["label"].to_pylist()], np.int64)
        cuts = [0, *(place for place in range(1, len(names)) if names[place] != names[place - 1]), len(names)]
        return {
            names[begin]: Intervals(starts=starts[begin:end], ends=ends[begin:end], labels=numbers[begin:end])
            for begin, end in zip(cuts, cuts[1:], strict=False)
            if begin < end
        }


def _labelled(table: pa.Table) -> pa.Table:
    """Spell ids and labels that are stored as floats as ``fields.spelt`` does: 1089.0 as 1089, and NaN as null."""
    for name in ("utterance_id", "label"):
        if pa.types.is_floating(table[name].type):
            cells = [None if is_missing(cell) else spelt(cell) for cell in table[name].to_pylist()]
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(cells, pa.string()))
    return table


class Names:
    """Utterances, found by the names that a table from elsewhere may have for them.

    An utterance_id counts before what another utterance_id encodes. Memory: about 100 bytes for each id that has an
    escape, 30 for each other.

    Attributes:
        ids: All utterance ids, sorted.
    """

    def __init__(self, utterance_ids: Collection[str]) -> None:
        self.ids = pa.array(sorted(utterance_ids), pa.string())
        escaped = self.ids.filter(pc.match_substring(self.ids, ".")).to_pylist()
        self._shortened = {name for name in escaped if decode_id(name) is None}
        plain = {name: utterance_id for utterance_id in escaped if (name := decode_id(utterance_id)) is not None}
        taken = pc.is_in(pa.array(list(plain), pa.string()), self.ids).to_pylist()
        self._ids = {name: found for (name, found), is_id in zip(plain.items(), taken, strict=True) if not is_id}

    def find(self, names: pa.Array) -> pa.Array:
        """Give the utterance_id of each name, null where there is none.

        Args:
            names: Strings (N,).

        Returns:
            Strings (N,).
        """
        if not self._ids and not self._shortened:
            return pc.if_else(pc.is_in(names, self.ids), names, pa.scalar(None, pa.string()))
        encoded = names.dictionary_encode()
        values = encoded.dictionary
        is_id = pc.is_in(values, self.ids).to_pylist()
        found = [name if there else self._plain(name) for name, there in zip(values.to_pylist(), is_id, strict=True)]
        return pa.array(found, pa.string()).take(encoded.indices)

    def _plain(self, name: str) -> str | None:
        found = self._ids.get(name)
        # An escape is at most four characters for a byte, so no shorter name is shortened.
        if found is None and self._shortened and len(name.encode("utf-8", "surrogatepass")) * 4 > MAX_ID_LENGTH:
            encoded = encode_id(name)
            found = encoded if encoded in self._shortened else None
        return found

    def rows_of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Keep the rows of these utterances, under their utterance ids."""
        found = self.find(batch["utterance_id"])
        column = batch.schema.get_field_index("utterance_id")
        return batch.set_column(column, batch.schema.field(column), found).filter(pc.is_valid(found))


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """The labelled intervals of one utterance.

    Attributes:
        starts: float64 (n,), seconds, ascending.
        ends: float64 (n,), seconds.
        labels: int64 (n,), numbers of the labels.
    """

    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray

    def at(self, frames: np.ndarray, hop_seconds: float) -> np.ndarray:
        """Label frames by the interval that holds the middle of their hop, (t + 1/2) hops after the beginning.

        Args:
            frames: Frame numbers (T,).
            hop_seconds: Seconds from a frame to the next.

        Returns:
            int64 (T,), -1 for frames in no interval. Of intervals that overlap, the one that begins last counts.
        """
        if not len(self.starts):
            return np.full(len(frames), -1)
        middles = (frames + 0.5) * hop_seconds
        places = np.searchsorted(self.starts, middles, side="right") - 1
        inside = (places >= 0) & (middles < self.ends[places])
        return np.where(inside, self.labels[places], -1)


NO_INTERVALS = Intervals(starts=np.zeros(0), ends=np.zeros(0), labels=np.zeros(0, np.int64))
