"""The way back: an export's ids become the tokens of each layer and frame again, as a vocoder wants them.

    for stretch in read_export("out/export"):
        stretch.utterance_id, stretch.first_frame, stretch.tokens["layer_07"]      # int64 (T,)

Unit BPE is taken apart, delays are undone, repeated frames come back by their durations. Text that stands for speech
has no tokens, so its frames are missing. Knows no Ray.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.formats.registry import READERS
from pipeline.export.ids import bpe
from pipeline.export.ids.interleaving import speech_sequences
from pipeline.export.ids.patterns import Pattern, UnitSequence, decode
from pipeline.export.ids.vocabularies import read_vocabulary
from pipeline.export.ids.vocabulary import Vocabulary
from pipeline.export.shards.parts import read_parts
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_unit
from pipeline.store.storage import join

SOURCES = ("sequences", "megatron", "parquet")
"""What can be read back: the others do not keep durations and places beside the ids."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTokens:
    """Tokens of consecutive frames of an utterance.

    Attributes:
        utterance_id: The utterance.
        document_id: The document that holds it.
        first_frame: Its first frame here: not 0 where a long utterance was cut, or text comes before.
        num_frames: Frames of the utterance that it stands for.
        tokens: int64 (T,) for each token column; of each run once where nobody asked for every frame.
    """

    utterance_id: str
    document_id: str
    first_frame: int
    num_frames: int
    tokens: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Speller:
    """Turns the ids of a row into tokens; ``counted`` is the column that says how many there must be."""

    counted: str
    vocabulary: Vocabulary
    pattern: Pattern
    interleaved: bool
    merges: bpe.UnitBpe | None

    def __call__(self, ids: np.ndarray, durations: np.ndarray | None) -> dict[str, np.ndarray] | None:
        """Give the tokens, None for text."""
        durations = durations if self.pattern.deduplicate else None
        if self.merges is not None:
            ids = self.merges.decode(ids)
        if not self.interleaved:
            return decode(UnitSequence(ids=ids, durations=durations), self.pattern, self.vocabulary)
        found = speech_sequences(ids, durations, self.pattern, self.vocabulary)
        return decode(found[0], self.pattern, self.vocabulary) if found else None


def read_export(
    uri: str,
    *,
    source: str = "sequences",
    part: str | None = None,
    unit: str | None = None,
    every_frame: bool = True,
) -> Iterator[FrameTokens]:
    """Read the tokens of an export back.

    Args:
        uri: Folder of an export, local or s3://.
        source: What is read: ``sequences``, in the order of the corpus; or ``megatron`` or ``parquet``, in the order
            of documents, from a local folder.
        part: One part, as ``part-000``; default: all, one after the other.
        unit: One shard of each, as ``shard-00000``; default: all.
        every_frame: Whether deduplicated frames come back by their durations; False: each run once, and durations are
            not looked at.

    Raises:
        SettingsError: The source cannot be read back, or there is no such part.
        DatasetError: The export, or this source of it, is not finished.
        CorruptDatasetError: Ids and what is said of them do not agree.
    """
    if source not in SOURCES:
        raise SettingsError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")
    if source != "sequences" and not every_frame:
        raise SettingsError(f"source {source} does not say how many frames were kept; read its sequences")
    if source != "sequences" and uri.startswith("s3://"):
        raise SettingsError(f"source {source} needs a local folder, got {uri}; fetch it, or read its sequences")
    root = Dataset.open(uri, kind="export", finished=False)
    names = [found.name for found in read_parts(root.store)]
    if part is not None and part not in names:
        raise SettingsError(f"{uri} has {', '.join(names)}, not {part}")
    vocabulary = read_vocabulary(root.store)
    if vocabulary is None:
        raise CorruptDatasetError(f"{uri} has no vocabulary; run export_tokens again")
    merges = None
    if vocabulary.bpe is not None:
        merges = bpe.UnitBpe.from_bytes(root.store.read(bpe.FILE), vocabulary, f"{uri}/{bpe.FILE}")
    pattern = Pattern.from_json(root.plan.content["pattern"])
    spell = _Speller(
        counted="num_frames" if every_frame else "num_kept",
        vocabulary=vocabulary,
        pattern=pattern if every_frame else replace(pattern, deduplicate=False),
        interleaved=root.plan.content["words"],
        merges=merges,
    )
    read = _from_sequences if source == "sequences" else partial(_from_format, source)
    return (
        found
        for name in ([part] if part is not None else names)
        for found in read(Dataset.open(join(uri, source, name)), spell, unit)
    )


def _from_sequences(dataset: Dataset, spell: _Speller, only: str | None) -> Iterator[FrameTokens]:
    dtype = spell.vocabulary.dtype
    for unit in dataset.plan.units if only is None else (only,):
        for row in read_unit(dataset, unit).to_pylist():
            lasted = None if row["durations"] is None else np.frombuffer(row["durations"], "<i4")
            tokens = spell(np.frombuffer(row["ids"], dtype), lasted)
            if tokens is not None:
                yield _checked(row, tokens, spell.counted)


def _from_format(form: str, dataset: Dataset, spell: _Speller, only: str | None) -> Iterator[FrameTokens]:
    for unit in dataset.plan.units if only is None else (only,):
        stretches = _meta(form, dataset, unit)
        for ids, rows in zip(READERS[form](dataset.uri, unit), stretches, strict=True):
            for row in rows:
                held = ids[row["start"] : row["start"] + row["num_ids"]]
                lasted = None if row["durations"] is None else np.array(row["durations"], np.int32)
                tokens = spell(held, lasted)
                if tokens is not None:
                    yield _checked(row, tokens, spell.counted)


def _meta(form: str, dataset: Dataset, unit: str) -> Iterator[list[dict[str, Any]]]:
    """Give what is said of the stretches of each document of a shard."""
    if form == "parquet":
        for row in read_unit(dataset, unit).select(["document_id", "utterances"]).to_pylist():
            yield [{"document_id": row["document_id"], **stretch} for stretch in row["utterances"]]
        return
    with dataset.store.open(f"{unit}.meta.parquet") as file:
        table: pa.Table = pq.read_table(file)
    numbers = table["document"].to_numpy()
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for begin, end in zip(cuts, cuts[1:], strict=False):
        if begin < end:
            yield table.slice(begin, end - begin).to_pylist()


def _checked(row: dict[str, Any], tokens: dict[str, np.ndarray], counted: str) -> FrameTokens:
    frames = {len(column) for column in tokens.values()}
    if frames != {row[counted]}:
        raise CorruptDatasetError(
            f"{row['utterance_id']} has ids of {frames} frames, {row[counted]} were exported; export it anew"
        )
    return FrameTokens(
        utterance_id=row["utterance_id"],
        document_id=row["document_id"],
        first_frame=row["first_frame"],
        num_frames=row["num_frames"],
        tokens=tokens,
    )
