import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from pipeline.cards.entropy import entropy
from pipeline.kmeans.cards import quality
from pipeline.kmeans.cards.counts import CodeCounts
from pipeline.kmeans.search.assignment import nearest


def tables(seed, num_codes, num_labels, largest=30):
    """Give frames as codes and labels, and their table."""
    table = np.random.default_rng(seed).integers(0, largest, (num_codes, num_labels))
    table[0, 0] += 1
    codes, labels = np.indices(table.shape).reshape(2, -1).repeat(table.reshape(-1), axis=1)
    return table, codes, labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_information_agrees_with_scipy_and_scikit_learn(seed, num_codes, num_labels):
    table, codes, labels = tables(seed, num_codes, num_labels)
    label_bits = scipy_entropy(table.sum(0), base=2)
    assert entropy(table.sum(0)) == pytest.approx(label_bits, abs=1e-12)
    bits = mutual_info_score(codes, labels) / np.log(2)
    assert quality.mutual_information(table) == pytest.approx(bits, abs=1e-10)
    if min(len(set(codes)), len(set(labels))) > 1:
        expected = normalized_mutual_info_score(codes, labels)
        assert quality.normalized_mutual_information(table) == pytest.approx(expected, abs=1e-9)
        share = quality.label_normalized_mutual_information(table)
        assert share == pytest.approx(bits / label_bits, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_purities_are_accuracies_of_the_best_guess(seed, num_codes, num_labels):
    table, codes, labels = tables(seed, num_codes, num_labels)
    best_label = {code: np.bincount(labels[codes == code]).argmax() for code in set(codes)}
    assert quality.phone_purity(table) == np.mean(
        [best_label[code] == y for code, y in zip(codes, labels, strict=True)]
    )
    best_code = {y: np.bincount(codes[labels == y]).argmax() for y in set(labels)}
    assert quality.cluster_purity(table) == np.mean(
        [best_code[y] == code for code, y in zip(codes, labels, strict=True)]
    )


def test_codes_that_are_the_labels_are_perfect():
    table = np.diag([5, 9, 2])[[2, 0, 1]]
    for measure in (
        quality.label_normalized_mutual_information,
        quality.normalized_mutual_information,
        quality.phone_purity,
        quality.cluster_purity,
        quality.matched_agreement,
    ):
        assert measure(table) == pytest.approx(1, abs=1e-12)


def test_codes_finer_than_the_labels_have_full_pnmi_but_no_full_nmi():
    table = np.repeat(np.eye(2, dtype=np.int64), 4, axis=0)
    assert quality.label_normalized_mutual_information(table) == 1
    assert quality.normalized_mutual_information(table) == pytest.approx(1 / 2)
    assert quality.phone_purity(table) == 1
    assert quality.cluster_purity(table) == 1 / 4


def test_independent_codes_tell_nothing():
    table = np.outer([1, 2, 3], [4, 5])
    assert quality.mutual_information(table) == pytest.approx(0, abs=1e-12)
    assert quality.label_normalized_mutual_information(table) == pytest.approx(0, abs=1e-12)
    drawn = np.random.default_rng(0).multinomial(10**6, np.full(100, 0.01)).reshape(20, 5)
    bias = 19 * 4 / (2 * 10**6 * np.log(2))
    assert quality.mutual_information(drawn) == pytest.approx(bias, rel=0.5)


def test_tables_without_frames_or_variety_are_zero():
    for table in (np.zeros((3, 2), np.int64), np.array([[4], [0]])):
        assert quality.normalized_mutual_information(table) == 0
        assert quality.label_normalized_mutual_information(table) == 0
    assert quality.phone_purity(np.zeros((3, 2), np.int64)) == 0


@pytest.mark.parametrize("num_codes", [2, 3, 100, 1000])
def test_codes_used_evenly_have_a_perplexity_of_k(num_codes):
    use = quality.code_use(np.full(num_codes, 17))
    assert use.perplexity == pytest.approx(num_codes)
    assert use.share_of_log_k == pytest.approx(1)
    assert (use.dead, use.rare) == (0, 0)


def test_dead_and_rare_codes_are_counted_apart():
    # A tenth of N / K is 2.5 frames here.
    use = quality.code_use(np.array([0, 2, 3, 95]))
    assert (use.dead, use.rare, use.largest_share) == (1, 1, 0.95)
    # Exactly a tenth is not rare.
    assert quality.code_use(np.array([1, 19])).rare == 0
    assert quality.code_use(np.array([1, 20])).rare == 1


def described(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    features = [(shift + rng.normal(size=(300, 4))).astype(np.float16) for _ in range(5)]
    centroids = np.concatenate(features)[:8].astype(np.float32)
    counts = CodeCounts(8, 4)
    tokens = [nearest(cell, centroids).tokens for cell in features]
    for cell, ids in zip(features, tokens, strict=True):
        counts.add_frames(cell, centroids, ids)
        counts.add_runs(ids)
    return counts, np.concatenate(features).astype(np.float64), centroids, tokens


@pytest.mark.parametrize("shift", [0.0, 500.0])
def test_explained_variance_is_that_of_the_definition(shift):
    counts, frames, centroids, _ = described(shift=shift)
    squares = ((frames[:, None] - centroids) ** 2).sum(-1).min(1)
    expected = 1 - squares.sum() / ((frames - frames.mean(0)) ** 2).sum()
    assert quality.explained_variance(counts) == pytest.approx(expected, abs=1e-6)


def test_frames_that_do_not_vary_have_no_variance_to_explain():
    counts = CodeCounts(2, 3)
    cell = np.full((40, 3), 0.1, np.float16)
    counts.add_frames(cell, np.zeros((2, 3), np.float32), np.zeros(40, np.int64))
    assert quality.explained_variance(counts) is None


def test_quantiles_of_distances_are_at_most_a_bin_too_large():
    counts, frames, centroids, _ = described()
    gaps = np.sqrt(((frames[:, None] - centroids) ** 2).sum(-1).min(1))
    found = quality.distances(counts)
    for share, value in found.quantiles.items():
        exact = np.quantile(gaps, float(share), method="inverted_cdf")
        assert exact <= value <= max(1.016 * exact, 2.0**-12)
    assert found.mean_square == pytest.approx((gaps**2).mean(), abs=2**-24)
    assert sum(number for _, _, number in found.histogram) == len(gaps)


def test_bitrates_count_tokens_and_runs():
    counts, frames, _, tokens = described()
    runs = [[code for code, _ in itertools.groupby(ids.tolist())] for ids in tokens]
    number = sum(map(len, runs))
    found = quality.runs(counts)
    assert (found.runs, found.dedup_ratio) == (number, number / len(frames))
    assert sum(length * many for length, many in found.lengths) == len(frames)
    rate = quality.bitrate(counts, 50.0, whole_utterances=True)
    assert rate.fixed == 150
    assert rate.entropy == pytest.approx(50 * scipy_entropy(np.bincount(np.concatenate(tokens)), base=2))
    assert rate.dedup_fixed == pytest.approx(150 * number / len(frames))
    left = scipy_entropy(np.bincount(np.concatenate([np.array(codes) for codes in runs])), base=2)
    assert rate.dedup_entropy == pytest.approx(50 * number / len(frames) * left)
    assert quality.bitrate(counts, 50.0, whole_utterances=False).dedup_fixed is None


def test_agreement_of_codebooks_does_not_depend_on_the_names_of_codes():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 30, 5000)
    other = rng.permutation(30)[codes]
    changed = rng.random(5000) < 0.2
    other[changed] = rng.integers(0, 30, changed.sum())
    table = np.zeros((30, 30), np.int64)
    np.add.at(table, (codes, other), 1)
    assert quality.matched_agreement(table) == pytest.approx(0.8 + 0.2 / 30, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_agreement_is_that_of_the_best_of_all_matchings(seed, num_codes, num_others):
    table, _, _ = tables(seed, num_codes, num_others)
    longer = table if num_codes >= num_others else table.T
    best = max(
        sum(longer[row, column] for column, row in enumerate(chosen))
        for chosen in itertools.permutations(range(len(longer)), longer.shape[1])
    )
    assert quality.matched_agreement(table) == best / table.sum()
