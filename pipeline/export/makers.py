"""What workers of an export do: tokens to sequences, sequences scattered to shards, shards to formats.

Each is a ``Maker`` of the executor, reads its own input, and knows no Ray.
Memory: one unit of tokens; ``layout.GROUP_BYTES`` of sequences; one shard of ids about four times.
"""

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.loading import open_manifest
from pipeline.export.cards.statistics import Statistics
from pipeline.export.formats.arrays import Documents, Spelling
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids.encoding import Encoding
from pipeline.export.ids.rows import labels_of, sequence_rows
from pipeline.export.shards.assembling import assemble, gather, rows_by_unit
from pipeline.export.shards.layout import Layout, group_name, read_layout
from pipeline.store.dataset import Dataset, Output, Plan, canonical, parquet_bytes
from pipeline.store.reading import footer_sha256, read_row_group, read_unit
from pipeline.store.storage import Store, open_store
from pipeline.work.units import Utterance

READ_AT_ONCE = 256
STATISTICS = "_statistics"
"""Folder of a sequences dataset: what each unit adds to the card."""


def numerics() -> dict[str, str]:
    """Name the libraries that the bytes of an export may depend on."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "tokenizers")}


@dataclass(frozen=True, kw_only=True)
class SequenceInput:
    """What sequences are made of.

    Attributes:
        tokens: URI of the tokens dataset.
        manifest: URI of their manifest, or None.
        encoding: How utterances become rows.
        corpus: Name of the corpus, for the card.
    """

    tokens: str
    manifest: str | None
    encoding: Encoding
    corpus: str


class SequenceMaker:
    """Turns a unit of tokens into rows of sequences."""

    stage = "sequences"

    def __init__(self, given: SequenceInput, plan: Plan) -> None:
        self._given, self._plan = given, plan
        self._tokens = Dataset.open(given.tokens, kind="tokens")
        self._naming = given.encoding.naming()

    def numerics(self) -> Mapping[str, str]:
        """Say what the bytes may depend on besides the plan."""
        return numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Encode a unit; ``utterances`` is empty, the tokens are read here."""
        given, encoding = self._given, self._given.encoding
        tokens = read_unit(self._tokens, unit)
        interleaving = encoding.interleaving
        words = interleaving.words_of(tokens["utterance_id"].to_pylist()) if interleaving is not None else {}
        labels = None
        if given.manifest is not None:
            manifest = open_manifest(given.manifest)
            labels = labels_of(manifest.rows(unit), manifest.roots)
        table = sequence_rows(
            tokens,
            labels,
            columns=encoding.pattern.columns,
            encode=encoding.encoder(words),
            naming=self._naming,
            vocabulary=encoding.vocabulary,
            frame_rate=encoding.frame_rate,
        )
        counted = Statistics.of(table, encoding.vocabulary, encoding.pattern, given.corpus)
        return Output(
            data=parquet_bytes(table, self._plan.lineage),
            rows=tokens.num_rows,
            seconds=sum(table["seconds"].to_pylist()),
            num_frames=sum(table["num_frames"].to_pylist()),
            notes={"ids": sum(table["num_ids"].to_pylist())},
            beside={f"{STATISTICS}/{unit}.json": canonical(counted.to_json()).encode()},
        )


class ScatterMaker:
    """Sorts the rows of a group of units by the shard that they go to, one row group a shard."""

    stage = "scattered"

    def __init__(self, sequences: str, layout_sha256: str, plan: Plan) -> None:
        self._sequences = Dataset.open(sequences, kind="sequences")
        self._layout, self._plan = layout_sha256, plan

    def numerics(self) -> Mapping[str, str]:
        """Say what the bytes may depend on besides the plan."""
        return numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Scatter a group; ``utterances`` is empty, the sequences are read here."""
        layout = read_layout(self._sequences, self._layout, unit)
        whole = take_rows(self._sequences, layout["unit"].to_numpy(), layout["row"].to_numpy())
        whole = whole.append_column("place", layout["place"])
        targets, starts = np.unique(layout["shard"].to_numpy(), return_index=True)
        bounds = [*starts.tolist(), layout.num_rows]
        sink = pa.BufferOutputStream()
        columns = schema.with_lineage(whole.schema, canonical(self._plan.lineage))
        with pq.ParquetWriter(sink, columns, compression="zstd", write_page_checksum=True) as writer:
            for begin, end in zip(bounds, bounds[1:], strict=False):
                writer.write_table(whole.slice(begin, end - begin).replace_schema_metadata(columns.metadata))
        data = sink.getvalue()
        return Output(
            data=memoryview(data),
            rows=len(whole["utterance_id"].unique()),
            seconds=sum(whole["seconds"].to_pylist()),
            num_frames=sum(whole["num_frames"].to_pylist()),
            notes={
                "shards": {str(target): number for number, target in enumerate(targets.tolist())},
                "footer_sha256": footer_sha256(pa.BufferReader(data)),
            },
        )


class FormatMaker:
    """Writes one shard in one format."""

    stage = "export"

    def __init__(
        self, form: str, sequences: str, scattered: str | None, layout: Layout, spelling: Spelling, plan: Plan
    ) -> None:
        self._writer = FORMATS[form]
        self._sequences = Dataset.open(sequences, kind="sequences")
        self._scattered = Dataset.open(scattered, kind="scattered") if scattered is not None else None
        # Read once a worker: a shard takes rows of every group.
        self._groups = self._scattered.commits() if self._scattered is not None else []
        self._layout, self._spelling, self._plan = layout, spelling, plan

    def numerics(self) -> Mapping[str, str]:
        """Say what the bytes may depend on besides the plan."""
        return numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Write a shard; ``utterances`` is empty, the sequences are read here."""
        documents = self._documents(unit)
        files = self._writer.write(documents, self._spelling)
        facts = {shard.name: shard for shard in self._layout.shards}[unit]
        data = files.pop(self._writer.EXTENSION)
        return Output(
            data=data,
            rows=len(documents),
            seconds=facts.seconds,
            num_frames=facts.num_frames,
            notes={"ids": len(documents.ids)},
            beside={unit + ending: content for ending, content in files.items()},
        )

    def _documents(self, unit: str) -> Documents:
        layout = read_layout(self._sequences, self._layout.sha256, unit)
        if self._scattered is None:
            rows = take_rows(self._sequences, layout["unit"].to_numpy(), layout["row"].to_numpy())
        else:
            rows = self._gathered([shard.name for shard in self._layout.shards].index(unit))
        return assemble(rows, layout["document"].to_numpy(), self._spelling.vocabulary)

    def _gathered(self, shard: int) -> pa.Table:
        assert self._scattered is not None
        found = []
        for commit in self._groups:
            row_group = commit.notes["shards"].get(str(shard))
            if row_group is None:
                continue
            table = read_row_group(self._scattered, commit.unit, row_group, commit.notes["footer_sha256"])
            rows = table.drop_columns("place").replace_schema_metadata(None)
            found.append((rows, table["place"].to_numpy()))
        return gather(found)


def take_rows(sequences: Dataset, unit: np.ndarray, row: np.ndarray) -> pa.Table:
    """Read some rows of a sequences dataset, in the order asked for.

    Args:
        sequences: A finished dataset.
        unit: int32 (R,), number of the unit of each row in the plan.
        row: int32 (R,), its place there.
    """
    found = []
    for number, rows, places in rows_by_unit(unit, row):
        table = read_unit(sequences, sequences.plan.units[number])
        whole = len(rows) == table.num_rows and (rows == np.arange(len(rows))).all()
        found.append((table if whole else table.take(pa.array(rows)), places))
    return gather([(table.replace_schema_metadata(None), places) for table, places in found])


def scatter_units(layout: Layout) -> list[str]:
    """Name the units of a scattered dataset."""
    return [group_name(number) for number in range(len(layout.groups))]


def statistics_of(sequences: str, units: Sequence[str]) -> Statistics:
    """Add up what some units of a sequences dataset counted."""
    return Statistics.total(_counted(open_store(sequences), units))


def _counted(store: Store, units: Sequence[str]) -> Iterator[Statistics]:
    names = [f"{STATISTICS}/{unit}.json" for unit in units]
    for start in range(0, len(names), READ_AT_ONCE):
        held = names[start : start + READ_AT_ONCE]
        for name, data in zip(held, store.read_many(held), strict=True):
            yield Statistics.from_json(json.loads(data), f"{store.uri}/{name}")
