from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pipeline.kmeans.fit.lloyd import RunningSums, inertia, relative_improvement, sum_squares, update
from pipeline.kmeans.search.assignment import nearest

UNIT = 2.0**-24


def rows(seed, count=300, dim=7, scale=1.0):
    wide = scale * np.random.default_rng(seed).standard_normal((count, dim))
    return wide.clip(-65504, 65504).astype(np.float16)


def sums_of(features, num_clusters, tokens):
    sums = RunningSums(num_clusters, features.shape[1])
    sums.move(features, np.full(len(features), -1), np.asarray(tokens))
    return sums.total()


def step(features, centroids):
    return sums_of(features, len(centroids), nearest(features, centroids).tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 300), max_size=6), st.sampled_from([1e-5, 1.0, 2e4]))
def test_sums_are_the_same_for_any_split_and_order(seed, cuts, scale):
    features = rows(seed, scale=scale)
    centroids = features[:10].astype(np.float32)
    whole = step(features, centroids)
    shuffled = features[np.random.default_rng(seed).permutation(len(features))]
    parts = [step(part, centroids) for part in np.split(shuffled, sorted(cuts))]
    total = parts[-1]
    for part in parts[:-1]:
        total = total.merged(part)
    assert exact(total) == exact(whole)
    assert (total.high == whole.high).all()
    assert (total.counts == whole.counts).all()
    assert sum(sum_squares(part) for part in np.split(shuffled, sorted(cuts))) == sum_squares(features)
    assert update(total, centroids).centroids.tobytes() == update(whole, centroids).centroids.tobytes()


def exact(part):
    """The sums as Python integers, in units of 2^-24."""
    pairs = zip(part.high.tolist(), part.low.tolist(), strict=True)
    return [[(h << 32) + x for h, x in zip(high, low, strict=True)] for high, low in pairs]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1.0, 2e4]))
def test_sums_equal_those_of_rational_numbers(seed, scale):
    features = rows(seed, count=600, dim=3, scale=scale)
    tokens = np.random.default_rng(seed).integers(0, 2, 600)
    found = exact(sums_of(features, 3, tokens))
    for cluster in range(3):
        of_cluster = features[tokens == cluster].T.tolist()
        assert found[cluster] == [sum((Fraction(x) for x in column), Fraction(0)) * 2**24 for column in of_cluster]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1e-5, 1.0, 2e4]))
def test_sums_that_follow_rows_equal_fresh_ones(seed, moves, scale):
    rng = np.random.default_rng(seed)
    features, running = rows(seed, scale=scale), RunningSums(5, 7)
    before = np.full(len(features), -1)
    for _ in range(moves):
        after = np.where(rng.random(len(features)) < 0.3, rng.integers(0, 5, len(features)), np.maximum(before, 0))
        for part in np.split(np.arange(len(features)), [100, 101, 250]):
            running.move(features[part], before[part], after[part])
        found, fresh = running.total(), sums_of(features, 5, after)
        assert exact(found) == exact(fresh)
        assert found.counts.tolist() == fresh.counts.tolist()
        before = after


def test_sums_beyond_exact_float64_are_poured_out_in_time():
    features = np.full((30_000, 2), 65504, np.float16)
    features[::2, 1] = 2.0**-24
    found = sums_of(features, 2, np.zeros(30_000, int))
    assert exact(found)[0] == [30_000 * 65504 * 2**24, 15_000 * (65504 * 2**24 + 1)]


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 129])
def test_a_rows_norm_does_not_depend_on_the_rows_beside_it(dim):
    features = rows(8, count=400, dim=dim)
    assert sum(sum_squares(features[n : n + 1]) for n in range(400)) == sum_squares(features)


def test_wrong_clusters_and_values_are_refused():
    features, sums = rows(0, count=4), RunningSums(2, 7)
    fresh = np.full(4, -1)
    for after in ([0, 1, 2, 0], [0, -1, 0, 0]):
        with pytest.raises(ValueError, match="clusters after must be"):
            sums.move(features, fresh, np.array(after))
    with pytest.raises(ValueError, match="features must be"):
        sums.move(features, fresh, np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="clusters before must be"):
        sums.move(features, np.full(4, 2), np.zeros(4, int))
    with pytest.raises(ValueError, match="finite"):
        sum_squares(np.full((4, 7), np.inf, np.float16))
    with pytest.raises(ValueError, match="no rows"):
        update(sums.total(), np.zeros((2, 7), np.float32))


def test_sums_are_exact_integers_of_the_unit():
    features = np.array([[65504, 2**-24], [65504, -(2**-24)], [-1, 0.5]], np.float16)
    found = sums_of(features, 2, [0, 0, 1])
    assert exact(found) == [[2 * 65504 * 2**24, 0], [-(2**24), 2**23]]
    assert found.counts.tolist() == [2, 1]


def test_sums_past_int64_stay_exact():
    features = np.full((4096, 1), 65504, np.float16)
    part = sums_of(features, 1, np.zeros(4096, int))
    total = part
    for _ in range(12):
        total = total.merged(total)
    assert exact(total) == [[4096 * 2**12 * 65504 * 2**24]]
    assert exact(total)[0][0] > 2**63
    assert update(total, np.zeros((1, 1), np.float32)).centroids[0, 0] == 65504


def test_inertia_is_the_sum_of_squared_distances():
    features = rows(0)
    centroids = rows(1, count=8).astype(np.float32)
    found = step(features, centroids)
    direct = ((features[:, None].astype(np.float64) - centroids) ** 2).sum(-1).min(1).sum()
    assert abs(inertia(found, sum_squares(features), centroids) - direct) <= len(features) * UNIT


def test_inertia_of_rows_on_their_centroids_is_nothing():
    features = np.full((5000, 3), 1.1, np.float16)
    centroids = features[:1].astype(np.float32)
    found = inertia(step(features, centroids), sum_squares(features), centroids)
    assert 0 <= found <= 1e-6


def test_iterations_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    centers = rng.uniform(-10, 10, (6, 5))
    features = (centers[rng.integers(0, 6, 2000)] + rng.standard_normal((2000, 5))).astype(np.float16)
    centroids = features[:6].astype(np.float32)
    reference = KMeans(6, init=centroids.astype(np.float64), n_init=1, max_iter=40, tol=0, algorithm="lloyd")
    reference.fit(features.astype(np.float64))
    for _ in range(60):
        centroids = update(step(features, centroids), centroids).centroids
    np.testing.assert_allclose(centroids, reference.cluster_centers_, atol=1e-4)
    np.testing.assert_array_equal(nearest(features, centroids).tokens, reference.labels_)


def test_inertia_never_rises():
    features, centroids = rows(2), rows(3, count=12).astype(np.float32)
    squares, history = sum_squares(features), []
    for _ in range(15):
        found = step(features, centroids)
        history.append(inertia(found, squares, centroids))
        centroids = update(found, centroids).centroids
    assert all(after <= before for before, after in zip(history, history[1:], strict=False))
    assert history[-1] < history[0]


def test_empty_clusters_take_halves_of_the_largest_and_none_is_left():
    features = np.concatenate([rows(4, count=200) + np.float16(8), rows(5, count=10)])
    centroids = np.concatenate([np.full((1, 7), 8), np.zeros((1, 7)), np.full((3, 7), 900)]).astype(np.float32)
    first = update(step(features, centroids), centroids)
    assert first.num_empty == 3
    assert len(np.unique(first.centroids, axis=0)) == 5
    again = step(features, first.centroids)
    assert (again.counts > 0).sum() >= 4
    assert update(again, first.centroids).num_empty <= 1


def test_a_zero_centroid_can_be_split():
    features = np.zeros((4, 3), np.float16)
    found = update(sums_of(features, 2, np.zeros(4, int)), np.zeros((2, 3), np.float32))
    assert (found.centroids[0] != found.centroids[1]).any()


def test_improvement_is_a_share():
    assert relative_improvement(10.0, 9.0) == 0.1
    assert relative_improvement(0.0, 0.0) == 0.0
