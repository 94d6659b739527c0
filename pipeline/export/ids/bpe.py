"""Byte-pair encoding of units: what follows each other often becomes one id, and back.

Unit b, counted over the layer blocks of a vocabulary, is written as one character of the private-use planes 15 and 16,
and a stretch of units as one word without spaces, so `tokenizers` of Hugging Face trains and applies the merges. The
alphabet is all units, seen or not: model id b < U is unit b, and model id U + m is the m-th id of the ``bpe`` block,
so vocabulary id = ``units_start`` + model id. Ids that are no units (text, special tokens) end a word: nothing merges
with them or across them.

Training counts pairs in pieces of at most ``PIECE`` units, because its time grows with the square of a word's length:
300,000 units and 1,000 merges take 0.5 s in pieces of 1,500 and 5.7 s in pieces of 100,000 (2 cores, 0.23.3). Its
memory is about 100 bytes a unit; what does not fit is for the caller to sample. Encoding is O(n log n) in a word and
needs no pieces.

Source: R. Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2; on units of
speech F. Shen et al. 2024, Acoustic BPE for Speech Generation with Discrete Tokens, section 2.
Shapes: N ids, U units of all layers, M merges.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer, models, trainers

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.vocabulary import Block, Vocabulary

FILE = "bpe/tokenizer.json"
PIECE = 1024
"""Units of one word in training."""
PLANE, PLANE_SIZE = 0xF0000, 0xFFFE
"""First character of plane 15 and how many it has; plane 16 begins two later, the two being no characters."""
MAX_UNITS = 2 * PLANE_SIZE
BATCH = 1 << 20
"""Units that are encoded at once: what `tokenizers` keeps of them beside the ids is some 100 bytes each."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What unit BPE saves.

    Attributes:
        num_units: Ids before.
        num_ids: Ids after.
        units_per_id: How many ids before one id after stands for, on average.
        bits_per_second_before: Bits a second of speech, log2 U bits an id.
        bits_per_second_after: The same with log2 (U + M) bits an id.
    """

    num_units: int
    num_ids: int
    units_per_id: float
    bits_per_second_before: float
    bits_per_second_after: float


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitBpe:
    """Merges of units.

    Attributes:
        units_start: Vocabulary id of the first unit.
        num_units: Units of all layers, U.
        tokenizer: The merges; its ids begin with 0 at ``units_start``.
    """

    units_start: int
    num_units: int
    tokenizer: Tokenizer

    @property
    def num_merges(self) -> int:
        """Ids that stand for several units, M: what ``Vocabulary.build`` must be told."""
        return int(self.tokenizer.get_vocab_size()) - self.num_units

    def added_to(self, vocabulary: Vocabulary) -> Vocabulary:
        """Give the same vocabulary with the merges behind its layers; special tokens move."""
        end = self.units_start + self.num_units
        return replace(vocabulary, bpe=Block(name="bpe", start=end, size=self.num_merges))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Units that each id from ``units_start`` on stands for, int64 (U + M,)."""
        return np.diff(self._offsets)

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """Merge the units of one sequence: int64 ids, at most N, for ids (N,).

        Raises:
            CorruptDatasetError: An id is of the ``bpe`` block, so it stands for several units already.
        """
        return self.encode_many([ids])[0]

    def encode_many(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Merge the units of each sequence; none merges with another.

        `tokenizers` uses all cores unless RAYON_NUM_THREADS names a number: 4.4 million units a second with two
        threads, 1.1 with one, in utterances of 750 units beside other work; decoding 18 and 7.

        Args:
            sequences: Vocabulary ids (N,) each.

        Returns:
            int64 ids of each.

        Raises:
            CorruptDatasetError: An id is of the ``bpe`` block, so it stands for several units already.
        """
        if not sequences:
            return []
        ends = np.cumsum([len(ids) for ids in sequences])
        numbers = np.concatenate(sequences).astype(np.int64) - self.units_start
        if ((numbers >= self.num_units) & (numbers < self.num_units + self.num_merges)).any():
            raise CorruptDatasetError("ids are merged already; unit BPE encodes single units")
        cuts, unit = _stretches(numbers, ends, self.num_units)
        pieces = self._merged(numbers, cuts, unit)
        lengths = np.r_[0, np.cumsum([len(piece) for piece in pieces])].astype(np.int64)
        merged = np.concatenate(pieces or [numbers]) + self.units_start
        return np.split(merged, lengths[np.searchsorted(cuts, ends[:-1])])

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Undo ``encode``: int64 ids, each of the ``bpe`` block replaced by the units it stands for."""
        numbers = ids.astype(np.int64) - self.units_start
        known = (numbers >= 0) & (numbers < len(self.lengths))
        places = np.where(known, numbers, 0)
        lengths = np.where(known, self.lengths[places], 1)
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        units = self._units[np.repeat(self._offsets[places], lengths) + within * np.repeat(known, lengths)]
        found: np.ndarray = np.where(np.repeat(known, lengths), units, np.repeat(numbers, lengths))
        return found + self.units_start

    def compression(self, *, num_units: int, num_ids: int, seconds: float) -> Compression:
        """Measure what was saved.

        Args:
            num_units: Units before.
            num_ids: Ids after.
            seconds: Speech that they stand for.

        Raises:
            SettingsError: There is nothing to measure.
        """
        if min(num_units, num_ids) < 1 or not seconds > 0:
            raise SettingsError(f"compression needs units, ids and seconds, got {num_units}, {num_ids}, {seconds}")
        return Compression(
            num_units=num_units,
            num_ids=num_ids,
            units_per_id=num_units / num_ids,
            bits_per_second_before=num_units * math.log2(self.num_units) / seconds,
            bits_per_second_after=num_ids * math.log2(self.num_units + self.num_merges) / seconds,
        )

    def to_bytes(self) -> bytes:
        """Give ``tokenizer.json``, the same bytes for the same training data."""
        return self.tokenizer.to_str().encode()

    @classmethod
    def from_bytes(cls, content: bytes, vocabulary: Vocabulary, source: str = FILE) -> "UnitBpe":
        """Read ``tokenizer.json``.

        Args:
            content: What ``to_bytes`` gave.
            vocabulary: Its blocks, the ``bpe`` block among them.
            source: Where the content comes from, for errors.

        Raises:
            CorruptDatasetError: It is no unit BPE, or not the one of this vocabulary.
        """
        try:
            parts = json.loads(content)
            if parts["model"]["type"] != "BPE" or any(parts[name] for name in ("added_tokens", *STEPS)):
                raise CorruptDatasetError(f"{source} does more than merge units; it is not the BPE of an export")
            tokenizer = Tokenizer.from_str(content.decode())
        except CorruptDatasetError:
            raise
        except Exception as error:  # `tokenizers` raises bare Exception
            raise CorruptDatasetError(f"{source} is no unit BPE: {error}; restore it, or export anew") from error
        num_units = vocabulary.layers[-1].end - vocabulary.units_start
        found = cls(units_start=vocabulary.units_start, num_units=num_units, tokenizer=tokenizer)
        size = vocabulary.bpe.size if vocabulary.bpe else 0
        if found.num_merges != size or found._strings[:num_units] != list(_text(np.arange(num_units))):
            raise CorruptDatasetError(
                f"{source} has {tokenizer.get_vocab_size()} ids, its vocabulary {num_units} units and {size} merges; "
                "they belong to different exports"
            )
        return found

    def _merged(self, numbers: np.ndarray, cuts: np.ndarray, unit: np.ndarray) -> list[np.ndarray]:
        """Encode each stretch of units, in batches; other stretches stay."""
        text = _text(np.where((numbers >= 0) & (numbers < self.num_units), numbers, 0))
        pieces = [numbers[begin:end] for begin, end in pairwise(cuts)]
        places = np.flatnonzero(unit)
        batches = np.cumsum(np.diff(cuts)[places]) // BATCH
        for batch in np.split(places, np.flatnonzero(np.diff(batches)) + 1):
            words = [text[cuts[place] : cuts[place + 1]] for place in batch]
            for place, found in zip(batch, self.tokenizer.encode_batch_fast(words), strict=True):
                pieces[place] = np.array(found.ids, np.int64)
        return pieces

    @cached_property
    def _strings(self) -> list[str]:
        vocabulary = self.tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    @cached_property
    def _offsets(self) -> np.ndarray:
        """int64 (U + M + 1,): where the units of each id begin in ``_units``."""
        offsets: np.ndarray = np.r_[0, np.cumsum([len(string) for string in self._strings])].astype(np.int64)
        return offsets

    @cached_property
    def _units(self) -> np.ndarray:
        """The units that each id stands for, one id after the other."""
        characters = np.frombuffer("".join(self._strings).encode("utf-32-le"), "<u4").astype(np.int64) - PLANE
        units: np.ndarray = np.where(characters > PLANE_SIZE, characters - 2, characters)
        return units


STEPS = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
"""Parts of a ``tokenizer.json`` that would change what the merges give."""


def train(sequences: Iterable[np.ndarray], vocabulary: Vocabulary, num_merges: int) -> UnitBpe:
    """Merge the most frequent pair of neighbours, again and again; of pairs equally frequent the lower ids first.

    The result depends on the sequences alone, neither on their order nor on the number of threads. It has fewer merges
    than were asked for, which is logged, where no pair is left that occurs twice.

    Args:
        sequences: Vocabulary ids (N,) each; what is no unit ends a word.
        vocabulary: Where the layers lie; its ``bpe`` block, if it has one, is not looked at.
        num_merges: Ids wanted beyond single units.

    Raises:
        SettingsError: ``num_merges`` is below 1, there are more units than private characters, or nothing can be
            merged.
    """
    num_units = vocabulary.layers[-1].end - vocabulary.units_start
    if num_merges < 1 or num_units > MAX_UNITS:
        raise SettingsError(
            f"unit BPE needs at least 1 merge and at most {MAX_UNITS:,} tokens of all layers, "
            f"got {num_merges} and {num_units:,}; use fewer layers or clusters"
        )
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=num_units + num_merges,
        min_frequency=2,
        initial_alphabet=list(_text(np.arange(num_units))),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(sequences, vocabulary.units_start, num_units), trainer)
    found = UnitBpe(units_start=vocabulary.units_start, num_units=num_units, tokenizer=tokenizer)
    if not found.num_merges:
        raise SettingsError("unit BPE has nothing to merge: no two tokens follow each other twice; give it more speech")
    if found.num_merges < num_merges:
        logger.warning("Unit BPE has %d merges, not %d: no other pair occurs twice", found.num_merges, num_merges)
    return found


def _words(sequences: Iterable[np.ndarray], units_start: int, num_units: int) -> Iterator[str]:
    """Cut sequences into words of at most ``PIECE`` units."""
    for ids in sequences:
        numbers = ids.astype(np.int64) - units_start
        cuts, unit = _stretches(numbers, np.array([len(ids)]), num_units)
        for place in np.flatnonzero(unit):
            word = _text(numbers[cuts[place] : cuts[place + 1]])
            yield from (word[begin : begin + PIECE] for begin in range(0, len(word), PIECE))


def _stretches(numbers: np.ndarray, ends: np.ndarray, num_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut where units begin or end, and where a sequence ends.

    Args:
        numbers: int64 (N,), units are 0 up to ``num_units``.
        ends: Where each sequence ends.
        num_units: U.

    Returns:
        Where each stretch begins, and N; whether each stretch is units.
    """
    unit = (numbers >= 0) & (numbers < num_units)
    changes = np.flatnonzero(unit[1:] != unit[:-1]) + 1
    cuts = np.unique(np.r_[0, changes, ends])
    return cuts, unit[cuts[:-1]]


def _text(numbers: np.ndarray) -> str:
    """Write units as characters."""
    characters = np.where(numbers < PLANE_SIZE, numbers, numbers + 2) + PLANE
    return characters.astype("<u4").tobytes().decode("utf-32-le")
