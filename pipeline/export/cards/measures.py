"""What an export is like: each measure a function of counts, so that it does not depend on who counted what.

Shapes: L layers, K tokens of a layer, V ids of the vocabulary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.cards.entropy import entropy
from pipeline.errors import SettingsError
from pipeline.export.cards.statistics import LENGTH_EDGES, MICROSECONDS, Counts
from pipeline.export.ids.bpe import UnitBpe
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Block, Vocabulary

MOST_VALUES = 1000
"""Speakers, languages and parts that a card names, those with most audio; the others are counted together."""
QUANTILES = (0.05, 0.5, 0.95)
BPE, TEXT, SPECIALS = "bpe", "text", "special tokens"
"""Names of the parts of a vocabulary beside its layers."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Numbers a second of audio.

    Attributes:
        tokens: Tokens of all layers.
        kept_tokens: Tokens that deduplication left.
        ids_before_bpe: The same with what delays, text and special tokens add.
        ids: Ids as exported.
    """

    tokens: float
    kept_tokens: float
    ids_before_bpe: float
    ids: float


@dataclass(frozen=True, kw_only=True)
class IdBitrate:
    """Bits a second of audio that a code of single tokens needs; how long each lasts is not paid for.

    Attributes:
        fixed: log2 K bits for each token of each frame.
        kept_fixed: log2 K bits for each token that deduplication left.
        kept_entropy: The entropy of each layer's tokens for each that deduplication left.
        bpe_fixed: log2 of all units and merges for each id after unit BPE; None without.
        bpe_entropy: The entropy of these ids for each of them; None without.
    """

    fixed: float
    kept_fixed: float
    kept_entropy: float
    bpe_fixed: float | None
    bpe_entropy: float | None


@dataclass(frozen=True, kw_only=True)
class BlockUse:
    """How a part of the vocabulary is used.

    Attributes:
        name: Token column, ``bpe``, ``text`` or ``special tokens``.
        size: Ids.
        occurrences: How often they occur; tokens of a layer also inside the merges of unit BPE.
        used: Ids that occur.
        dead: Ids that do not.
        entropy_bits: Entropy H of the occurrences.
        perplexity: 2^H.
        largest_share: Share of the occurrences that the most frequent id has.
    """

    name: str
    size: int
    occurrences: int
    used: int
    dead: int
    entropy_bits: float
    perplexity: float
    largest_share: float


@dataclass(frozen=True, kw_only=True)
class VocabularyUse:
    """The vocabulary and its use.

    Attributes:
        size: All ids, padding too.
        possible: Ids that stand for something.
        used: Ids that occur in utterances, as exported.
        dtype: How ids are stored.
        blocks: Its parts; merges are taken apart for the layers.
        occurrences: Ids that occur, and how often each does.
    """

    size: int
    possible: int
    used: int
    dtype: str
    blocks: Sequence[BlockUse]
    occurrences: tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of utterances.

    Attributes:
        histogram: Of each bin that is not empty the lower and upper edge in microseconds (0 and None where it has
            none) and its utterances.
        quantiles: Microseconds that a share of the utterances is shorter than, by share as text: upper edges of bins,
            at most 19 % too large; None past the last.
    """

    histogram: Sequence[tuple[int, int | None, int]]
    quantiles: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What each value of a column has.

    Attributes:
        values: Different values.
        largest: Value, microseconds and ids of those with most audio, ``MOST_VALUES`` at most.
        others: Number, microseconds and ids of the other values.
        unknown: Microseconds and ids without a value.
    """

    values: int
    largest: Sequence[tuple[str, int, int]]
    others: tuple[int, int, int]
    unknown: tuple[int, int]


def taken_apart(uses: np.ndarray, vocabulary: Vocabulary, bpe: UnitBpe | None) -> np.ndarray:
    """Count the tokens of layers, those inside merges too.

    Args:
        uses: int64 (V,), how often each id occurs.
        vocabulary: What the ids are.
        bpe: The merges; None where the vocabulary has none.

    Returns:
        int64, one for each id of the layers, from ``units_start`` on.

    Raises:
        SettingsError: Merges are missing, or are those of another vocabulary.
    """
    start, end = vocabulary.units_start, vocabulary.layers[-1].end
    tokens = uses[start:end].copy()
    block = vocabulary.bpe
    if (block.size if block else 0) != (bpe.num_merges if bpe else 0):
        raise SettingsError("the vocabulary has another number of merges than bpe; give the one it was built with")
    if block is not None and bpe is not None:
        merged = np.arange(block.start, block.end)
        times = np.repeat(uses[merged], bpe.lengths[merged - start])
        np.add.at(tokens, bpe.decode(merged) - start, times)
    return tokens


def _a_second(number: float, counts: Counts) -> float:
    return number * MICROSECONDS / counts.microseconds if counts.microseconds else 0.0


def rates(counts: Counts, num_layers: int) -> Rates:
    """Give numbers a second, 0 where there is no audio."""
    return Rates(
        tokens=_a_second(counts.frames * num_layers, counts),
        kept_tokens=_a_second(counts.kept_frames * num_layers, counts),
        ids_before_bpe=_a_second(counts.ids_before_bpe, counts),
        ids=_a_second(counts.ids, counts),
    )


def bitrate(
    counts: Counts, uses: np.ndarray, tokens: np.ndarray, vocabulary: Vocabulary, pattern: Pattern
) -> IdBitrate:
    """Give bits a second, 0 where there is no audio.

    Args:
        counts: Of all rows.
        uses: int64 (V,), how often each id occurs.
        tokens: From ``taken_apart``.
        vocabulary: What the ids are.
        pattern: How frames became ids.
    """
    blocks = [vocabulary.layer(column) for column in pattern.columns]
    fixed = math.fsum(math.log2(block.size) for block in blocks)
    bits = math.fsum(entropy(_of_block(tokens, block, vocabulary.units_start)) for block in blocks)
    units = uses[vocabulary.units_start : vocabulary.units_end]
    num_units = int(units.sum())
    merged = vocabulary.bpe is not None
    return IdBitrate(
        fixed=_a_second(counts.frames * fixed, counts),
        kept_fixed=_a_second(counts.kept_frames * fixed, counts),
        kept_entropy=_a_second(counts.kept_frames * bits, counts),
        bpe_fixed=_a_second(num_units * math.log2(len(units)), counts) if merged else None,
        bpe_entropy=_a_second(num_units * entropy(units), counts) if merged else None,
    )


def _of_block(tokens: np.ndarray, block: Block, start: int) -> np.ndarray:
    return tokens[block.start - start : block.end - start]


def vocabulary_use(uses: np.ndarray, tokens: np.ndarray, vocabulary: Vocabulary) -> VocabularyUse:
    """Say how each part of the vocabulary is used; ``uses`` and ``tokens`` as for ``bitrate``."""
    parts = [(block.name, _of_block(tokens, block, vocabulary.units_start)) for block in vocabulary.layers]
    if vocabulary.bpe:
        parts.append((BPE, uses[vocabulary.bpe.start : vocabulary.bpe.end]))
    if vocabulary.text_size:
        parts.append((TEXT, uses[: vocabulary.text_size]))
    parts.append((SPECIALS, uses[vocabulary.units_end :]))
    found = np.flatnonzero(uses)
    return VocabularyUse(
        size=vocabulary.size,
        possible=vocabulary.used,
        used=len(found),
        dtype=vocabulary.to_json()["dtype"],
        blocks=[_block_use(name, counts) for name, counts in parts],
        occurrences=(found.tolist(), uses[found].tolist()),
    )


def _block_use(name: str, counts: np.ndarray) -> BlockUse:
    total, used, bits = int(counts.sum()), int((counts > 0).sum()), entropy(counts)
    return BlockUse(
        name=name,
        size=len(counts),
        occurrences=total,
        used=used,
        dead=len(counts) - used,
        entropy_bits=bits,
        perplexity=2.0**bits,
        largest_share=int(counts.max(initial=0)) / total if total else 0.0,
    )


def lengths(counts: np.ndarray) -> Lengths:
    """Describe lengths from utterances by bin, int64 (B,)."""
    lower: list[int] = [0, *LENGTH_EDGES.tolist()]
    upper: list[int | None] = [*LENGTH_EDGES.tolist(), None]
    below = np.cumsum(counts)
    places = {f"{share:g}": int(np.searchsorted(below, math.ceil(share * below[-1]))) for share in QUANTILES}
    return Lengths(
        histogram=[(lower[place], upper[place], int(counts[place])) for place in np.flatnonzero(counts)],
        quantiles={share: upper[place] for share, place in places.items()} if below[-1] else {},
    )


def shares(found: Mapping[str | None, tuple[int, int]]) -> Shares:
    """Name the values with most audio, and count the others, from microseconds and ids by value."""
    known = [(value, *amounts) for value, amounts in found.items() if value is not None]
    known.sort(key=lambda row: (-row[1], -row[2], row[0]))
    rest = known[MOST_VALUES:]
    return Shares(
        values=len(known),
        largest=known[:MOST_VALUES],
        others=(len(rest), sum(row[1] for row in rest), sum(row[2] for row in rest)),
        unknown=found.get(None, (0, 0)),
    )
