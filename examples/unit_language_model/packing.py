"""Documents of an export, cut into blocks of a fixed length for a causal language model.

Training: an epoch is all documents in a seeded order, one after the other, each with its begin and end. Its ids are cut
into blocks, so that each is the target of exactly one; inputs are the same ids one place later, the first of all being
``<|end_of_document|>``. Attention and positions go on over the documents of a block, as GPT-3 and, unless told
otherwise, Megatron have it. Validation: each document by itself, in windows half a block apart; an id counts in the
first window that holds it, so all but the first half block of a document have at least half a block before them.

Shapes: N documents, I ids, T ids of a block.

Source: Brown et al. 2020, arXiv 2005.14165, appendix B (packing); transformers, "Perplexity of fixed-length models".
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from pipeline.export.formats.megatron import IndexedIds
from pipeline.seeds import rng

IGNORED = -100
"""Target where nothing is to be predicted, as torch and transformers have it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """One document.

    Attributes:
        ids: int64 (I,), begin, prefix and end among them.
        learned: bool (I,), where the export wants a loss.
        rows: bool (I,), ids of utterances: not begin, prefix or end. Entropies of the export's card are over these.
        starts: Where each utterance, or stretch of one, begins.
    """

    ids: np.ndarray
    learned: np.ndarray
    rows: np.ndarray
    starts: np.ndarray


class Shard:
    """A Megatron shard of an export with its sidecars; random access to its documents.

    Memory: three numbers an utterance; ids and loss mask stay on disk.

    Args:
        folder: A local folder, as ``export/megatron/part-000``.
        name: As ``train-00000``.

    Raises:
        CorruptDatasetError: The index does not fit the ids.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._ids = IndexedIds(folder, name)
        self.lengths = np.fromiter(map(len, self._each()), np.int64, len(self._ids))
        self._begins = np.cumsum(self.lengths) - self.lengths
        meta = pq.read_table(os.path.join(folder, f"{name}.meta.parquet"), columns=["document", "start", "num_ids"])
        self._rows = {column: meta[column].to_numpy() for column in meta.column_names}
        self._bounds = np.searchsorted(self._rows["document"], np.arange(len(self._ids) + 1))
        mask = os.path.join(folder, f"{name}.mask.bin")
        self._mask = np.memmap(mask, np.uint8, mode="r") if os.path.exists(mask) else None

    def _each(self) -> Iterator[np.ndarray]:
        return (self._ids[number] for number in range(len(self._ids)))

    def document(self, number: int) -> Document:
        """Read a document."""
        ids = self._ids[number].astype(np.int64)
        part = slice(int(self._bounds[number]), int(self._bounds[number + 1]))
        starts = self._rows["start"][part]
        rows = np.zeros(len(ids), bool)
        for start, count in zip(starts.tolist(), self._rows["num_ids"][part].tolist(), strict=True):
            rows[start : start + count] = True
        learned = np.ones(len(ids), bool)
        if self._mask is not None:
            begin = int(self._begins[number])
            learned = self._mask[begin : begin + len(ids)].astype(bool)
        return Document(ids=ids, learned=learned, rows=rows, starts=starts)


class Corpus:
    """The documents of several shards, numbered through.

    Args:
        shards: Folder and name of each.
    """

    def __init__(self, shards: Sequence[tuple[str, str]]) -> None:
        self._shards = [Shard(folder, name) for folder, name in shards]
        self.lengths: np.ndarray = np.concatenate([np.zeros(0, np.int64), *(shard.lengths for shard in self._shards)])
        self._firsts = np.cumsum([0, *(len(shard.lengths) for shard in self._shards)])

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, number: int) -> Document:
        """Read a document, 0 to N - 1."""
        shard = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return self._shards[shard].document(number - int(self._firsts[shard]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """What a model reads and predicts.

    Attributes:
        inputs: int64 (T,).
        targets: int64 (T,), ``IGNORED`` where no loss is taken.
        rows: bool (T,), targets that are ids of utterances and count for the loss.
    """

    inputs: np.ndarray
    targets: np.ndarray
    rows: np.ndarray


class Epoch:
    """All documents once, in an order that seed and epoch decide, cut into blocks.

    Memory: two numbers a document and one a block.

    Args:
        corpus: The documents.
        length: Ids of a block, T.
        end: Id of ``<|end_of_document|>``: the first input, and what fills the last block.
        seed: Seed of the order.
        epoch: From 0.
    """

    def __init__(self, corpus: Corpus, *, length: int, end: int, seed: int, epoch: int) -> None:
        self._corpus, self._length, self._end = corpus, length, end
        self._order = rng(seed, "documents", epoch).permutation(len(corpus))
        self._ends = np.cumsum(corpus.lengths[self._order])
        total = int(self._ends[-1]) if len(corpus) else 0
        self.blocks: np.ndarray = rng(seed, "blocks", epoch).permutation(-(-total // length))
        """Numbers of the blocks, in the order in which they are learned from."""

    def block(self, number: int) -> Block:
        """Cut a block out, by its number along the documents."""
        begin = number * self._length
        last = min(begin + self._length, int(self._ends[-1]))
        # The input of the first target is the id before it.
        first = max(0, begin - 1)
        pieces = []
        place = int(np.searchsorted(self._ends, first, side="right"))
        while place < len(self._ends) and (start := int(self._ends[place - 1]) if place else 0) < last:
            document = self._corpus.document(int(self._order[place]))
            size = len(document.ids)
            part = slice(max(0, first - start), min(size, last - start))
            pieces.append((document.ids[part], document.learned[part], document.rows[part]))
            place += 1
        ids, learned, rows = (np.concatenate(column) for column in zip(*pieces, strict=True))
        before = begin - first
        context = ids[:before] if before else np.array([self._end])
        return filled(
            np.concatenate([context, ids[before:-1]]),
            np.where(learned, ids, IGNORED)[before:],
            (rows & learned)[before:],
            length=self._length,
            end=self._end,
        )


def windows(length: int, num_ids: int) -> list[int]:
    """Say where the windows of a document begin: half a block apart, the last one reaching its end.

    Args:
        length: Ids of a block, T, at least 2.
        num_ids: Ids of the document, I.
    """
    half = length // 2
    return [0, *range(half, half * -(-(num_ids - length) // half) + 1, half)] if num_ids else []


def window(document: Document, start: int, *, length: int, end: int) -> Block:
    """Cut a window out of a document; what an earlier window has counted is context here."""
    ids = document.ids
    part = slice(start, min(start + length, len(ids)))
    context = ids[start - 1 : start] if start else np.array([end])
    fresh = np.arange(part.start, part.stop) >= (start + length - length // 2 if start else 0)
    learned = document.learned[part] & fresh
    return filled(
        np.concatenate([context, ids[part][:-1]]),
        np.where(learned, ids[part], IGNORED),
        document.rows[part] & learned,
        length=length,
        end=end,
    )


def filled(inputs: np.ndarray, targets: np.ndarray, rows: np.ndarray, *, length: int, end: int) -> Block:
    """Fill a block up with inputs ``end`` whose targets are ignored; the model is causal, so they change nothing."""
    missing = (0, length - len(inputs))
    return Block(
        inputs=np.pad(inputs, missing, constant_values=end),
        targets=np.pad(targets, missing, constant_values=IGNORED),
        rows=np.pad(rows, missing),
    )
