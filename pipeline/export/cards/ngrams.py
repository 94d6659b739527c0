"""How predictable ids are from the ones before them: entropies of n-grams, and what a bigram model makes of new ones.

    H(n) = H(n-grams) - H(their first n - 1 ids)            bits an id; n-grams never cross rows

These are plain (plug-in) estimates: the rarer n-grams are, the more of them occur once and look certain, so H(2) and
above all H(3) of a sample are too low. Beside each stands the Miller-Madow correction, (cells - 1) / (2 N ln 2) for
each of the two entropies, which is too small where most n-grams occur once. A language model is compared with neither
but with ``HeldOut``: bigrams of one half of the sample price the other half.

The sample is bounded: rows whose hash is small, about as many as a budget of ids allows. Cost: a sort of I numbers for
each n: 20 million ids took 24 s and 1.0 GB, one process (2 cores of an AMD EPYC, both busy).
Shapes: R rows, I ids, G n-grams that differ.

Source: G. A. Miller 1955, "Note on the bias of information estimates"; C. D. Manning and H. Schuetze 1999, section
2.2.8 (entropy rate).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.cards.entropy import entropy
from pipeline.errors import SettingsError
from pipeline.export.cards.statistics import read_ids
from pipeline.export.grouping import key_of
from pipeline.export.ids.vocabulary import Vocabulary

ORDERS = (1, 2, 3)
BUDGET = 20_000_000
"""Ids of a sample, about."""

_BITS = 21
MAX_IDS = (1 << _BITS) - 1
"""Vocabularies up to this size have n-grams here: three ids, or a pair with the beginning of a row, fit into int64."""


def row_limit(total_ids: int, budget: int = BUDGET) -> int:
    """Give the hash below which rows are in the sample: all if they fit, else about ``budget`` ids.

    Args:
        total_ids: Ids of all rows of all units; with more than there are, the sample is smaller.
        budget: Ids wanted.
    """
    return 1 << 64 if total_ids <= budget else (budget << 64) // total_ids


@dataclass(frozen=True, kw_only=True, eq=False)
class IdSample:
    """The rows that are counted.

    Attributes:
        ids: int32 (I,), all rows one after the other.
        ends: int64 (R,), where each row ends in ``ids``.
        second_half: bool (R,), the half to which a row's utterance belongs, by a bit of its hash.
    """

    ids: np.ndarray
    ends: np.ndarray
    second_half: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, vocabulary: Vocabulary, limit: int) -> "IdSample":
        """Choose rows of a unit; whether a row is chosen depends on its utterance_id and the limit alone.

        Args:
            table: Columns ``utterance_id``, ``num_ids`` and ``ids`` of ``schema.SEQUENCES``.
            vocabulary: What the ids are.
            limit: From ``row_limit``.

        Raises:
            SettingsError: The vocabulary is too large.
            CorruptDatasetError: Numbers of a row contradict its ids.
        """
        if vocabulary.used >= MAX_IDS:
            raise SettingsError(f"n-grams are counted for vocabularies below {MAX_IDS:,} ids, not {vocabulary.used:,}")
        hashes = np.array([key_of(name, "ngrams") for name in table["utterance_id"].to_pylist()], np.uint64)
        # The bound is a Python number: 2^64, which keeps all, does not fit into an array of its kind.
        chosen = np.full(len(hashes), True) if limit >= 1 << 64 else hashes < np.uint64(limit)
        rows = table.select(["utterance_id", "num_ids", "ids"]).filter(pa.array(chosen))
        return cls(
            ids=read_ids(rows, vocabulary).astype(np.int32),
            ends=np.cumsum(rows["num_ids"].to_numpy()),
            # The bound is on the upper bits, so the lowest one is fair.
            second_half=(hashes[chosen] & np.uint64(1)).astype(bool),
        )

    @classmethod
    def total(cls, parts: Iterable["IdSample"]) -> "IdSample":
        """Put samples of units together; numbers measured on them do not depend on the order."""
        held = list(parts)
        sizes = np.cumsum([0, *(len(part.ids) for part in held)])
        return cls(
            ids=np.concatenate([np.zeros(0, np.int32), *(part.ids for part in held)]),
            ends=np.concatenate(
                [np.zeros(0, np.int64), *(part.ends + size for part, size in zip(held, sizes, strict=False))]
            ),
            second_half=np.concatenate([np.zeros(0, bool), *(part.second_half for part in held)]),
        )


@dataclass(frozen=True, kw_only=True)
class OrderEntropy:
    """How predictable an id is from the n - 1 before it.

    Attributes:
        order: n.
        bits: Plain conditional entropy, bits an id.
        corrected_bits: The same after Miller and Madow.
        positions: N, n-grams counted.
        distinct: G, n-grams that differ.
        once: Share of the positions whose n-gram occurs there alone; about the chance that the next one is new.
    """

    order: int
    bits: float
    corrected_bits: float
    positions: int
    distinct: int
    once: float


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Bits an id that models of one half of the sample need for the other half, both ways, all ids of all rows.

    The first id of a row counts, its context is the beginning. So does a language model's that is given
    ``<|begin_of_document|>``, and this is what to compare it with.

    Attributes:
        ids: Ids priced.
        unigram_bits: By how often ids occur.
        bigram_bits: By the id before as well.
    """

    ids: int
    unigram_bits: float
    bigram_bits: float


@dataclass(frozen=True, kw_only=True)
class NgramEntropies:
    """What was measured on a sample.

    Attributes:
        rows: R.
        ids: I.
        orders: n = 1, 2 and 3, as far as rows are long enough.
        held_out: None where a half of the sample is empty.
    """

    rows: int
    ids: int
    orders: tuple[OrderEntropy, ...]
    held_out: HeldOut | None


def measure(sample: IdSample, num_ids: int) -> NgramEntropies:
    """Measure a sample.

    Args:
        sample: Ids in [0, num_ids).
        num_ids: Ids of the vocabulary that stand for something.
    """
    counted = ((order, count_ngrams(sample.ids, sample.ends, order)) for order in ORDERS)
    orders = tuple(_order_entropy(order, keys, counts) for order, (keys, counts) in counted if len(keys))
    return NgramEntropies(
        rows=len(sample.ends), ids=len(sample.ids), orders=orders, held_out=_held_out(sample, num_ids)
    )


def count_ngrams(ids: np.ndarray, ends: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Count n-grams that lie within a row.

    Args:
        ids: Integers (I,) in [0, MAX_IDS).
        ends: int64 (R,), where each row ends.
        order: n, 1 to 3.

    Returns:
        int64 (G,) packed n-grams, ascending, the first id in the highest bits; int64 (G,) how often each occurs.
    """
    positions = max(0, len(ids) - order + 1)
    within = np.ones(positions, bool)
    for back in range(1, order):
        crossing = ends - back
        within[crossing[(crossing >= 0) & (crossing < positions)]] = False
    keys = np.zeros(positions, np.int64)
    for place in range(order):
        keys <<= _BITS
        keys |= ids[place : place + positions]
    return _count(keys[within])


def _count(keys: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Count numbers, which are sorted in place; with weights they are sorted already, and weights are summed."""
    if weights is None:
        keys.sort()
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    if weights is None:
        return keys[starts], np.diff(np.r_[starts, len(keys)])
    return keys[starts], np.add.reduceat(weights, starts) if len(keys) else weights


def _order_entropy(order: int, keys: np.ndarray, counts: np.ndarray) -> OrderEntropy:
    positions = int(counts.sum())
    contexts = _count(keys >> _BITS, counts)[1]
    bits = max(0.0, entropy(counts) - entropy(contexts))
    return OrderEntropy(
        order=order,
        bits=bits,
        corrected_bits=bits + (len(counts) - len(contexts)) / (2 * positions * math.log(2)),
        positions=positions,
        distinct=len(counts),
        once=int((counts == 1).sum()) / positions,
    )


def _held_out(sample: IdSample, num_ids: int) -> HeldOut | None:
    second = np.repeat(sample.second_half, np.diff(sample.ends, prepend=0))
    keys = _pairs(sample.ids, sample.ends)
    halves = [_count(keys[~second]), _count(keys[second])]
    if not all(len(pairs) for pairs, _ in halves):
        return None
    unigram = bigram = 0.0
    for learned, new in (halves, halves[::-1]):
        model = BigramModel(*learned, num_ids=num_ids)
        unigram += float(-(np.log2(model.unigram(new[0] & MAX_IDS)) * new[1]).sum())
        bigram += float(-(np.log2(model.bigram(new[0])) * new[1]).sum())
    return HeldOut(ids=len(keys), unigram_bits=unigram / len(keys), bigram_bits=bigram / len(keys))


def _pairs(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Pack each id with the one before it plus 1; 0 stands before the first of a row."""
    before = np.zeros(len(ids), np.int64)
    before[1:] = ids[:-1] + np.int64(1)
    begins = np.r_[0, ends[:-1]][: len(ends)]
    before[begins[begins < len(ids)]] = 0
    pairs: np.ndarray = (before << _BITS) | ids
    return pairs


class BigramModel:
    """Interpolated Kneser-Ney smoothing of pairs, and absolute discounting of single ids, both down to 1 / V.

    Every id of the vocabulary has a probability after every context, and they sum to 1. One discount each,
    n1 / (n1 + 2 n2), where n1 and n2 are how many pairs (ids) occur once and twice; 0.5 where none occurs once.

    Source: R. Kneser and H. Ney 1995; S. F. Chen and J. Goodman 1999, "An empirical study of smoothing techniques",
    equations 21 to 25 with a single discount; below the continuation counts is a uniform distribution.

    Args:
        pairs: int64 (G,), ascending, packed: context in the upper bits.
        counts: int64 (G,), at least one pair.
        num_ids: V.
    """

    def __init__(self, pairs: np.ndarray, counts: np.ndarray, *, num_ids: int) -> None:
        self._pairs, self._counts = pairs, counts
        self._contexts, self._context_counts = _count(pairs >> _BITS, counts)
        self._followers = _count(pairs >> _BITS, np.ones_like(counts))[1]
        self._discount = _discount(counts)
        later = pairs & MAX_IDS
        self._unigram = _discounted(np.bincount(later, counts, num_ids).astype(np.int64))
        self._continuation = _discounted(np.bincount(later, minlength=num_ids))

    def unigram(self, ids: np.ndarray) -> np.ndarray:
        """Give the probability of ids, float64 of their shape."""
        found: np.ndarray = self._unigram[ids]
        return found

    def bigram(self, pairs: np.ndarray) -> np.ndarray:
        """Give the probability of the second of each pair after the first, float64 (N,) for packed pairs (N,)."""
        counts = _look_up(self._pairs, self._counts, pairs)
        totals = _look_up(self._contexts, self._context_counts, pairs >> _BITS)
        followers = _look_up(self._contexts, self._followers, pairs >> _BITS)
        lower = self._continuation[pairs & MAX_IDS]
        seen = np.maximum(counts - self._discount, 0) + self._discount * followers * lower
        found: np.ndarray = np.where(totals > 0, seen / np.maximum(totals, 1), lower)
        return found


def _discount(counts: np.ndarray) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return float(once / (once + 2 * twice)) if once else 0.5


def _discounted(counts: np.ndarray) -> np.ndarray:
    """Turn counts (V,) into probabilities, what a discount takes being given to all alike."""
    discount = _discount(counts)
    taken = discount * (counts > 0).sum()
    found: np.ndarray = (np.maximum(counts - discount, 0) + taken / len(counts)) / counts.sum()
    return found


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Give the value of each wanted key, 0 where it is not among the ascending keys."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: np.ndarray = np.where(keys[places] == wanted, values[places], 0)
    return found
