from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.kmeans.assignment import error_bound, nearest


def brute_force(features, centroids):
    """The definition, in rational numbers; ties go to the lower index."""
    result = []
    for row in features.tolist():
        distances = [
            sum((Fraction(x) - Fraction(c)) ** 2 for x, c in zip(row, centroid, strict=True))
            for centroid in centroids.tolist()
        ]
        result.append(distances.index(min(distances)))
    return result


def hard_case(seed, num_rows=24, dim=5, num_clusters=9, scale=1.0):
    """Rows near the middle between centroids that differ by one unit in the last place, and doubled centroids."""
    rng = np.random.default_rng(seed)
    features = (scale * rng.standard_normal((num_rows, dim))).astype(np.float16)
    centroids = (scale * rng.standard_normal((num_clusters, dim))).astype(np.float32)
    centroids[1] = np.nextafter(centroids[0], np.float32(np.inf))
    centroids[3] = centroids[2]
    centroids[4] = 2 * features[0].astype(np.float32) - centroids[0]
    centroids[5] = np.nextafter(centroids[4], np.float32(-np.inf))
    features[1] = features[0]
    centroids[6] = features[2].astype(np.float32)
    return features, centroids


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1e-3, 1.0, 100.0, 2e4]))
def test_every_engine_gives_the_token_of_exact_arithmetic(seed, scale):
    features, centroids = hard_case(seed, scale=scale)
    expected = brute_force(features, centroids)
    for engine in ("faiss", "torch"):
        assert nearest(features, centroids, engine=engine).tokens.tolist() == expected


def test_the_hard_cases_are_beyond_plain_float32():
    wrong = 0
    for seed in range(40):
        features, centroids = hard_case(seed)
        plain = ((features[:, None].astype(np.float32) - centroids) ** 2).sum(-1).argmin(1)
        wrong += int((plain != nearest(features, centroids).tokens).sum())
    assert wrong > 0


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_blocks_and_engines_change_no_token_on_many_rows(engine):
    rng = np.random.default_rng(1)
    features = rng.standard_normal((3000, 64)).astype(np.float16)
    centroids = rng.standard_normal((100, 64)).astype(np.float32)
    expected = nearest(features, centroids, engine="faiss").tokens
    for block_rows in (1, 7, 999, 3000) if engine == "faiss" else (64, 3000):
        found = nearest(features[:500], centroids, engine=engine, block_rows=block_rows).tokens
        np.testing.assert_array_equal(found, expected[:500])
    np.testing.assert_array_equal(nearest(features, centroids, engine=engine).tokens, expected)


def test_equal_centroids_give_the_lower_index():
    features = np.ones((4, 3), np.float16)
    centroids = np.array([[9, 9, 9], [1, 1, 1], [1, 1, 1], [-0.0, 2, 1]], np.float32)
    assert nearest(features, centroids).tokens.tolist() == [1] * 4


def test_one_cluster_takes_all():
    assert nearest(np.ones((3, 2), np.float16), np.zeros((1, 2), np.float32)).tokens.tolist() == [0, 0, 0]


def test_no_rows_are_no_tokens():
    assert nearest(np.zeros((0, 2), np.float16), np.zeros((3, 2), np.float32)).tokens.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-4, 1.0, 300.0, 3e4]))
def test_the_float32_error_stays_below_the_bound(seed, scale):
    import faiss

    rng = np.random.default_rng(seed)
    features = (scale * rng.standard_normal((50, 200))).clip(-65504, 65504).astype(np.float16).astype(np.float32)
    centroids = (scale * rng.standard_normal((20, 200)) + scale).astype(np.float32)
    distances, found = faiss.knn(features, centroids, 2)
    truth = ((features[:, None].astype(np.float64) - centroids[found].astype(np.float64)) ** 2).sum(-1)
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    reach = np.linalg.norm(centroids.astype(np.float64), axis=1).max()
    assert (np.abs(distances - truth) <= error_bound(norms, reach, 200, 24)[:, None]).all()


def test_inputs_are_not_changed():
    features, centroids = hard_case(3)
    kept = features.copy(), centroids.copy()
    nearest(features, centroids)
    np.testing.assert_array_equal(features, kept[0])
    np.testing.assert_array_equal(centroids, kept[1])


@pytest.mark.parametrize(
    ("features", "centroids"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)),
        (np.zeros((2, 3), np.float16), np.zeros((2, 4), np.float32)),
        (np.full((2, 3), np.nan, np.float16), np.zeros((2, 3), np.float32)),
        (np.zeros((2, 3), np.float16), np.full((2, 3), np.inf, np.float32)),
    ],
)
def test_wrong_input_is_refused(features, centroids):
    with pytest.raises(ValueError, match="must be|have|not finite"):
        nearest(features, centroids)


def test_an_unknown_engine_is_refused():
    with pytest.raises(SettingsError, match="engine must be"):
        nearest(np.zeros((2, 3), np.float16), np.zeros((2, 3), np.float32), engine="magic")
