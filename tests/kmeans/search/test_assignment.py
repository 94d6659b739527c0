from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.kmeans.search.assignment import CentroidTable, nearest
from pipeline.kmeans.search.centred import Scratch
from pipeline.kmeans.search.screening import is_exact

ENGINES = ["faiss", "torch", *(["int8"] if is_exact() else [])]


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
    features = (scale * rng.standard_normal((num_rows, dim))).clip(-65504, 65504).astype(np.float16)
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
    for engine in ENGINES:
        assert nearest(features, centroids, engine=engine).tokens.tolist() == expected


def test_the_hard_cases_are_beyond_plain_float32():
    wrong = 0
    for seed in range(40):
        features, centroids = hard_case(seed)
        plain = ((features[:, None].astype(np.float32) - centroids) ** 2).sum(-1).argmin(1)
        wrong += int((plain != nearest(features, centroids).tokens).sum())
    assert wrong > 0


@pytest.mark.parametrize("engine", ENGINES)
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


def worst_error(features, centroids, engine):
    """The largest error of an engine's scores as a share of the bound, over all rows and centroids kept."""
    table = CentroidTable(centroids)
    centred, mean = table.centre(features, Scratch()), table._float32[0]
    found = table.find(centred, engine=engine)
    worst = 0.0
    for row, (index, value) in enumerate(zip(found.tokens.tolist(), found.best.tolist(), strict=True)):
        x = [Fraction(a) - Fraction(m) for a, m in zip(features[row].tolist(), mean.tolist(), strict=True)]
        c = [Fraction(a) - Fraction(m) for a, m in zip(centroids[index].tolist(), mean.tolist(), strict=True)]
        truth = sum((a * b - b * b / 2 for a, b in zip(x, c, strict=True)), Fraction(0))
        worst = max(worst, float(abs(Fraction(value) - truth)) / centred.errors[row])
    return worst


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2.0**-24, 1e-4, 1.0, 300.0, 3e4]), st.sampled_from(ENGINES))
def test_the_float32_error_stays_below_the_bound(seed, scale, engine):
    rng = np.random.default_rng(seed)
    features = (scale * rng.standard_normal((25, 90))).clip(-65504, 65504).astype(np.float16)
    centroids = (scale * rng.standard_normal((12, 90)) + scale).astype(np.float32)
    assert worst_error(features, centroids, engine) <= 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("largest", [1e15, 1e19, 1e25, 3e38])
@pytest.mark.parametrize("how_many", [1, 6])
def test_centroids_beyond_float32_products_still_give_exact_tokens(engine, largest, how_many):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((30, 8)).astype(np.float16)
    centroids = rng.standard_normal((6, 8)).astype(np.float32)
    centroids[:how_many] = largest * rng.choice([-1, 1], (how_many, 8)) * (1 - 1e-6 * rng.random((how_many, 8)))
    assert nearest(features, centroids, engine=engine).tokens.tolist() == brute_force(features, centroids)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("unit", [2.0**-24, 1e-42])
def test_values_below_the_normal_floats_give_exact_tokens(engine, unit):
    rng = np.random.default_rng(4)
    features = (rng.integers(-3, 4, (40, 6)) * 2.0**-24).astype(np.float16)
    centroids = (rng.integers(-3, 4, (9, 6)) * unit).astype(np.float32)
    assert nearest(features, centroids, engine=engine).tokens.tolist() == brute_force(features, centroids)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_between_different_centroids_give_the_lower_index(engine):
    rng = np.random.default_rng(5)
    features = rng.integers(-2, 3, (60, 4)).astype(np.float16)
    centroids = rng.integers(-2, 3, (20, 4)).astype(np.float32)
    assert nearest(features, centroids, engine=engine).tokens.tolist() == brute_force(features, centroids)


def test_a_common_offset_sends_few_rows_to_float64():
    rng = np.random.default_rng(6)
    features = rng.standard_normal((2000, 256)).astype(np.float16)
    features[:, 5] += np.float16(60)
    found = nearest(features, features[:100].astype(np.float32))
    assert found.num_close < 0.1 * len(features)


def test_a_lower_precision_of_torch_changes_no_token():
    features, centroids = hard_case(7, num_rows=300, dim=64)
    expected = nearest(features, centroids, engine="faiss").tokens
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = nearest(features, centroids, engine="torch").tokens
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found, expected)


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
