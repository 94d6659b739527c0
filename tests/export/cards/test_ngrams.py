import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sequences import sequences, stretch

from pipeline.errors import SettingsError
from pipeline.export.cards.ngrams import MAX_IDS, BigramModel, IdSample, count_ngrams, measure, row_limit
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary

ROWS = st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=8)
BITS = 21


def sample_of(rows, second=()):
    return IdSample(
        ids=np.array([number for row in rows for number in row], np.int32),
        ends=np.cumsum([len(row) for row in rows], dtype=np.int64),
        second_half=np.array([place in second for place in range(len(rows))], bool),
    )


def counted(rows, order):
    return Counter(tuple(row[at : at + order]) for row in rows for at in range(len(row) - order + 1))


def unpacked(key, order):
    return tuple((key >> (BITS * (order - 1 - place))) & MAX_IDS for place in range(order))


def entropy_of(counts):
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 3), st.sampled_from([0, MAX_IDS - 6]))
def test_ngrams_are_those_counted_one_by_one(rows, order, offset):
    rows = [[number + offset for number in row] for row in rows]
    sample = sample_of(rows)
    keys, counts = count_ngrams(sample.ids, sample.ends, order)
    found = {unpacked(key, order): count for key, count in zip(keys.tolist(), counts.tolist(), strict=True)}
    assert found == counted(rows, order)
    assert (np.diff(keys) > 0).all()


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_conditional_entropies_are_those_of_the_counts(rows):
    found = measure(sample_of(rows), 6).orders
    assert [entry.order for entry in found] == [n for n in (1, 2, 3) if counted(rows, n)]
    for entry in found:
        counts = counted(rows, entry.order)
        contexts = Counter()
        for ngram, count in counts.items():
            contexts[ngram[:-1]] += count
        assert entry.bits == pytest.approx(entropy_of(counts) - entropy_of(contexts), abs=1e-9)
        assert (entry.positions, entry.distinct) == (sum(counts.values()), len(counts))
        assert entry.once == sum(count == 1 for count in counts.values()) / entry.positions
        correction = (len(counts) - len(contexts)) / (2 * entry.positions * math.log(2))
        assert entry.corrected_bits == pytest.approx(entry.bits + correction)


def test_an_independent_source_has_its_entropy_at_every_order():
    chances = np.array([0.5, 0.25, 0.125, 0.125])
    ids = np.random.default_rng(0).choice(4, size=(200, 1000), p=chances)
    found = measure(sample_of(ids.tolist(), second=range(100)), 4)
    # 200,000 draws: the standard error of the estimate is 0.002 bits.
    assert [entry.bits for entry in found.orders] == pytest.approx([1.75] * 3, abs=0.01)
    assert found.held_out.unigram_bits == pytest.approx(1.75, abs=0.01)
    assert found.held_out.bigram_bits == pytest.approx(1.75, abs=0.01)


def markov_rows(step, rows, length, seed):
    """Draw rows of a chain, the first id of each from its stationary distribution, which is uniform here."""
    rng = np.random.default_rng(seed)
    chances = rng.random((length, rows))
    cumulated = np.cumsum(step, axis=1)
    ids = np.zeros((length, rows), int)
    ids[0] = rng.integers(0, len(step), rows)
    for at in range(1, length):
        ids[at] = (chances[at][:, None] > cumulated[ids[at - 1]]).sum(axis=1)
    return ids.T.tolist()


def test_a_markov_source_has_the_entropy_of_its_step():
    step = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    rate = -(0.8 * math.log2(0.8) + 0.2 * math.log2(0.1))
    rows = markov_rows(step, rows=200, length=1000, seed=1)
    found = measure(sample_of(rows, second=range(100)), 3)
    assert [entry.bits for entry in found.orders] == pytest.approx([math.log2(3), rate, rate], abs=0.01)
    assert found.held_out.unigram_bits == pytest.approx(math.log2(3), abs=0.01)
    assert found.held_out.bigram_bits == pytest.approx(rate, abs=0.02)


def test_a_small_sample_says_too_little_and_the_correction_less_so():
    rows = np.random.default_rng(2).integers(0, 64, (20, 500)).tolist()
    pairs = measure(sample_of(rows, second=range(10)), 64)
    plain, corrected = pairs.orders[1].bits, pairs.orders[1].corrected_bits
    assert plain < corrected < 6.1
    assert 6 - plain > 0.2 > abs(6 - corrected)
    # What a model of the other half needs is never less than the truth.
    assert pairs.held_out.bigram_bits > 6


@settings(max_examples=60, deadline=None)
@given(ROWS.filter(lambda rows: any(rows)), st.integers(6, 9))
def test_probabilities_of_a_bigram_model_sum_to_one_after_every_context(rows, num_ids):
    pairs = Counter(((before + 1) << BITS) | after for row in rows for before, after in pairwise([-1, *row]))
    keys = np.array(sorted(pairs), np.int64)
    model = BigramModel(keys, np.array([pairs[key] for key in keys.tolist()]), num_ids=num_ids)
    ids = np.arange(num_ids)
    assert model.unigram(ids).sum() == pytest.approx(1)
    assert model.unigram(ids).min() > 0
    for context in range(num_ids + 1):
        after = model.bigram((context << BITS) | ids)
        assert after.sum() == pytest.approx(1)
        assert after.min() > 0


def discount_of(counts):
    once, twice = (sum(count == number for count in counts.values()) for number in (1, 2))
    return once / (once + 2 * twice) if once else 0.5


def kneser_ney(pairs, context, after, num_ids):
    """The probability as the formula is written, from counts of pairs."""
    continuations = Counter(later for _, later in pairs)
    taken = discount_of(continuations)
    lower = max(continuations[after] - taken, 0) + taken * len(continuations) / num_ids
    lower /= len(pairs)
    followers = [count for (before, _), count in pairs.items() if before == context]
    if not followers:
        return lower
    taken = discount_of(pairs)
    return (max(pairs[context, after] - taken, 0) + taken * len(followers) * lower) / sum(followers)


@settings(max_examples=40, deadline=None)
@given(ROWS.filter(lambda rows: any(rows)))
def test_a_bigram_model_is_interpolated_kneser_ney(rows):
    pairs = Counter((before, after) for row in rows for before, after in pairwise([-1, *row]))
    keys = sorted(pairs)
    packed = np.array([((before + 1) << BITS) | after for before, after in keys], np.int64)
    model = BigramModel(packed, np.array([pairs[key] for key in keys]), num_ids=7)
    for context in range(-1, 7):
        found = model.bigram(((context + 1) << BITS) | np.arange(7))
        assert found.tolist() == pytest.approx([kneser_ney(pairs, context, after, 7) for after in range(7)])


def test_held_out_bits_are_those_computed_by_hand():
    # Learned from "0 1": two pairs that occur once, so the discount is 1 and all mass goes to lower orders: each id
    # has had one context, discounted by 1 too, which leaves 1 / 4 for all of them.
    found = measure(sample_of([[0, 1], [2, 3, 3]], second=[1]), 4).held_out
    # Learned from "2 3 3", the ids occur once and twice, so their discount is 1 / 3, and for id 0 that leaves
    # (2 / 3) / 4 of 3.
    assert found.ids == 5
    unigram = 3 * 2 + 2 * -math.log2((2 / 3) / 4 / 3)
    assert found.unigram_bits == pytest.approx(unigram / 5)
    # Pairs (start 2), (2 3), (3 3) occur once: discount 1. Continuations: id 2 one, id 3 two; discount 1 / 3.
    assert found.bigram_bits == pytest.approx(unigram / 5)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms())
def test_samples_in_any_order_measure_the_same(rows, random):
    parts = [sample_of([row], second=[0] if place % 2 else []) for place, row in enumerate(rows)]
    whole = measure(IdSample.total(parts), 6)
    random.shuffle(parts)
    again = measure(IdSample.total(parts), 6)
    assert again.orders == whole.orders
    assert (again.rows, again.ids, again.held_out) == (whole.rows, whole.ids, whole.held_out)


def test_one_half_alone_gives_nothing_held_out():
    assert measure(sample_of([[1, 2], [3]]), 4).held_out is None


VOCABULARY = Vocabulary.build({"layer_01": 8})
PATTERN = Pattern(columns=("layer_01",), delays=(0,))


def table_of(names):
    rows = [stretch(name, {"layer_01": [len(name) % 8, int(name) % 8]}, PATTERN, VOCABULARY) for name in names]
    return sequences(rows)


def test_a_budget_keeps_about_so_many_ids_whatever_the_units():
    names = [str(number) for number in range(4000)]
    limit = row_limit(total_ids=8000, budget=2000)
    whole = IdSample.of(table_of(names), VOCABULARY, limit)
    parts = [IdSample.of(table_of(names[start : start + 1000]), VOCABULARY, limit) for start in range(0, 4000, 1000)]
    assert len(whole.ids) == pytest.approx(2000, rel=0.1)
    assert IdSample.total(parts).ids.tolist() == whole.ids.tolist()
    assert IdSample.total(parts).ends.tolist() == whole.ends.tolist()
    assert IdSample.total(parts).second_half.tolist() == whole.second_half.tolist()
    assert whole.second_half.mean() == pytest.approx(0.5, abs=0.1)


def test_all_rows_are_taken_where_the_budget_allows():
    found = IdSample.of(table_of(["10", "211"]), VOCABULARY, row_limit(total_ids=4, budget=4))
    assert found.ids.tolist() == [2, 2, 3, 3]
    assert found.ends.tolist() == [2, 4]


def test_a_vocabulary_that_does_not_fit_is_refused():
    with pytest.raises(SettingsError, match="2,097,151"):
        IdSample.of(table_of(["1"]), Vocabulary.build({"layer_01": MAX_IDS}), row_limit(1))
