from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pipeline.kmeans.assignment import nearest
from pipeline.kmeans.lloyd import accumulate, relative_improvement, update

UNIT = 2.0**-24


def rows(seed, count=300, dim=7, scale=1.0):
    wide = scale * np.random.default_rng(seed).standard_normal((count, dim))
    return wide.clip(-65504, 65504).astype(np.float16)


def step(features, centroids):
    return accumulate(features, centroids, nearest(features, centroids).tokens)


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
    assert total.inertia == whole.inertia
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
    found = exact(accumulate(features, np.zeros((3, 3), np.float32), tokens))
    for cluster in range(3):
        of_cluster = features[tokens == cluster].T.tolist()
        assert found[cluster] == [sum((Fraction(x) for x in column), Fraction(0)) * 2**24 for column in of_cluster]


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 129])
def test_a_rows_distance_does_not_depend_on_the_rows_beside_it(dim):
    features, centroids = rows(8, count=400, dim=dim), rows(9, count=3, dim=dim).astype(np.float32)
    tokens = nearest(features, centroids).tokens
    alone = [accumulate(features[n : n + 1], centroids, tokens[n : n + 1]).inertia for n in range(400)]
    assert sum(alone) == accumulate(features, centroids, tokens).inertia


def test_wrong_tokens_and_values_are_refused():
    features, centroids = rows(0, count=4), rows(1, count=2).astype(np.float32)
    for tokens in ([0, 1, 2, 0], [0, -1, 0, 0], [0, 1, 0]):
        with pytest.raises(ValueError, match="tokens must be"):
            accumulate(features, centroids, np.array(tokens))
    with pytest.raises(ValueError, match="finite"):
        accumulate(np.full((4, 7), np.inf, np.float16), centroids, np.zeros(4, int))
    with pytest.raises(ValueError, match="no rows"):
        update(accumulate(features[:0], centroids, np.zeros(0, int)), centroids)


def test_sums_are_exact_integers_of_the_unit():
    features = np.array([[65504, 2**-24], [65504, -(2**-24)], [-1, 0.5]], np.float16)
    found = accumulate(features, np.zeros((2, 2), np.float32), np.array([0, 0, 1]))
    assert exact(found) == [[2 * 65504 * 2**24, 0], [-(2**24), 2**23]]
    assert found.counts.tolist() == [2, 1]


def test_sums_past_int64_stay_exact():
    features = np.full((4096, 1), 65504, np.float16)
    part = accumulate(features, np.zeros((1, 1), np.float32), np.zeros(4096, int))
    total = part
    for _ in range(12):
        total = total.merged(total)
    assert exact(total) == [[4096 * 2**12 * 65504 * 2**24]]
    assert exact(total)[0][0] > 2**63
    assert total.inertia == 4096 * 2**12 * 65504**2 * 2**24
    assert update(total, np.zeros((1, 1), np.float32)).centroids[0, 0] == 65504


def test_inertia_is_the_sum_of_squared_distances():
    features = rows(0)
    centroids = rows(1, count=8).astype(np.float32)
    found = step(features, centroids)
    direct = ((features[:, None].astype(np.float64) - centroids) ** 2).sum(-1).min(1).sum()
    assert abs(found.inertia_value - direct) <= len(features) * UNIT


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
    history = []
    for _ in range(15):
        found = step(features, centroids)
        history.append(found.inertia_value)
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
    found = update(accumulate(features, np.zeros((2, 3), np.float32), np.zeros(4, int)), np.zeros((2, 3), np.float32))
    assert (found.centroids[0] != found.centroids[1]).any()


def test_improvement_is_a_share():
    assert relative_improvement(10.0, 9.0) == 0.1
    assert relative_improvement(0.0, 0.0) == 0.0
