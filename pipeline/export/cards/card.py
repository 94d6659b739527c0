"""The card of an export: what was exported and what it is like, as facts that are written as JSON.

``markdown.py`` and ``plots.py`` show it. Every count comes from the sum of all parts, so the card of a corpus
that was exported in parts is that of all at once; measures are computed from the counts, once. Equal exports give equal
bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.cards.facts import card_bytes
from pipeline.errors import CorruptDatasetError
from pipeline.export.cards.measures import (
    IdBitrate,
    Lengths,
    Rates,
    Shares,
    VocabularyUse,
    bitrate,
    lengths,
    rates,
    shares,
    taken_apart,
    vocabulary_use,
)
from pipeline.export.cards.ngrams import NgramEntropies
from pipeline.export.cards.statistics import GROUPS, Counts, Statistics
from pipeline.export.grouping import TRAIN, VALID
from pipeline.export.ids.bpe import UnitBpe
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary

CARD_VERSION = 1
"""Goes up when a number of the card changes its meaning."""
ALL = "all"
"""Both sides of the split together."""


@dataclass(frozen=True, kw_only=True)
class FormatFacts:
    """What was written in one format.

    Attributes:
        files: Files, sidecars too.
        bytes: Their size.
        documents: Documents.
        ids: Ids, those that begin and end documents too, as far as the format has them.
        shards: Shards.
        largest_imbalance: How far the largest or smallest shard of a side is from their mean, as a share of it.
        sides: Sides of the split that have a shard, ``train`` or ``valid``.
    """

    files: int
    bytes: int
    documents: int
    ids: int
    shards: int
    largest_imbalance: float
    sides: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much there is; the attributes are those of ``statistics.Counts``."""

    utterances: int
    rows: int
    microseconds: int
    frames: int
    kept_frames: int
    ids_before_bpe: int
    ids: int


@dataclass(frozen=True, kw_only=True)
class Bpe:
    """What unit BPE does.

    Attributes:
        merges: Ids that stand for several tokens.
        ids_per_id: Ids before for each id after, text and special tokens too.
    """

    merges: int
    ids_per_id: float


@dataclass(frozen=True, kw_only=True)
class ExportCard:
    """Everything that is said of an export.

    Attributes:
        version: ``CARD_VERSION``.
        name: What people call it.
        amounts: Of ``train``, ``valid`` and ``all``.
        rates: Tokens and ids a second.
        bitrate: Bits a second.
        bpe: Unit BPE; None without.
        ngrams: Entropies of n-grams of a sample; None where none was taken.
        vocabulary: Use of the ids.
        pattern: How frames became ids, ``Pattern.to_json``.
        lengths: Lengths of utterances.
        shares: By ``speaker``, ``language`` and ``corpus``.
        rejects: Number of rejects by reason, by dataset.
        formats: What was written, by format.
        lineage: Where the tokens come from, by part.
    """

    version: int
    name: str
    amounts: Mapping[str, Amounts]
    rates: Rates
    bitrate: IdBitrate
    bpe: Bpe | None
    ngrams: NgramEntropies | None
    vocabulary: VocabularyUse
    pattern: Mapping[str, Any]
    lengths: Lengths
    shares: Mapping[str, Shares]
    rejects: Mapping[str, Mapping[str, int]]
    formats: Mapping[str, FormatFacts]
    lineage: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> bytes:
        """Write the card: sorted keys, measures of nine digits, a line for each of the attributes."""
        return card_bytes(asdict(self))


def make_card(
    name: str,
    statistics: Statistics,
    *,
    vocabulary: Vocabulary,
    pattern: Pattern,
    bpe: UnitBpe | None,
    ngrams: NgramEntropies | None,
    formats: Mapping[str, FormatFacts],
    rejects: Mapping[str, Mapping[str, int]],
    lineage: Mapping[str, Mapping[str, Any]],
) -> ExportCard:
    """Compute a card.

    Args:
        name: What people call the export.
        statistics: Of all rows of all parts.
        vocabulary: What the ids are.
        pattern: How frames became ids.
        bpe: The merges, where the vocabulary has any.
        ngrams: Measured on a sample of the rows.
        formats: What was written, by format.
        rejects: Number of rejects by reason, by dataset, as ``manifest`` and ``tokens``.
        lineage: By part: encoder, hashes of encoder, codebooks, manifest and tokens, whatever is known.

    Raises:
        SettingsError: Merges are missing, or are those of another vocabulary.
        CorruptDatasetError: The ids do not amount to the frames.
    """
    both = statistics.all
    uses = np.zeros(vocabulary.used, np.int64)
    if len(both.uses) > len(uses):
        raise CorruptDatasetError(f"id {len(both.uses) - 1} occurs, the vocabulary ends before {vocabulary.used}")
    uses[: len(both.uses)] = both.uses
    tokens = taken_apart(uses, vocabulary, bpe)
    held, expected = int(tokens.sum()), both.kept_frames * len(pattern.columns)
    if held != expected:
        raise CorruptDatasetError(f"ids hold {held:,} tokens, frames and layers say {expected:,}; export them anew")
    sides = {TRAIN: statistics.train, VALID: statistics.valid, ALL: both}
    return ExportCard(
        version=CARD_VERSION,
        name=name,
        amounts={side: _amounts(counts) for side, counts in sides.items()},
        rates=rates(both, len(pattern.columns)),
        bitrate=bitrate(both, uses, tokens, vocabulary, pattern),
        bpe=None if bpe is None else Bpe(merges=bpe.num_merges, ids_per_id=both.ids_before_bpe / max(1, both.ids)),
        ngrams=ngrams,
        vocabulary=vocabulary_use(uses, tokens, vocabulary),
        pattern=pattern.to_json(),
        lengths=lengths(both.lengths),
        shares={group: shares(both.groups[group]) for group in GROUPS},
        rejects=rejects,
        formats=formats,
        lineage=lineage,
    )


def _amounts(counts: Counts) -> Amounts:
    return Amounts(**{name: getattr(counts, name) for name in Amounts.__dataclass_fields__})
