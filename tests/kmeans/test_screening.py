from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kmeans.assignment import CentroidTable, nearest
from pipeline.kmeans.screening import is_exact

pytestmark = pytest.mark.skipif(not is_exact(), reason="this processor has no exact int8 products")


def true_scores(row, centroids, mean):
    """(x - m) . (c - m) - |c - m|^2 / 2 of one row and every centroid, in rational numbers."""
    x = [Fraction(a) - Fraction(m) for a, m in zip(row.tolist(), mean.tolist(), strict=True)]
    scores = []
    for centroid in centroids.tolist():
        c = [Fraction(a) - Fraction(m) for a, m in zip(centroid, mean.tolist(), strict=True)]
        scores.append(sum((a * b - b * b / 2 for a, b in zip(x, c, strict=True)), Fraction(0)))
    return scores


def check(features, centroids, width=0.0):
    """No centroid outside the candidates is above ``outer``, and the best is a candidate."""
    table = CentroidTable(centroids)
    centred, mean = table.centre(features), table._float32[0]
    found = table.find(centred, engine="int8", width=width)
    for row in range(len(features)):
        columns = found.columns[found.rows == row].tolist()
        scores = true_scores(features[row], centroids, mean)
        assert int(found.tokens[row]) in columns
        assert scores.index(max(scores)) in columns
        others = [score for column, score in enumerate(scores) if column not in columns]
        if others and np.isfinite(found.outer[row]):
            assert max(others) <= Fraction(float(found.outer[row]))
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([2.0**-24, 1e-3, 1.0, 300.0, 3e4]),
    st.sampled_from(["plain", "outlier column", "far rows", "offset"]),
    st.sampled_from([0.0, 0.5, 1e3]),
)
def test_what_is_left_out_is_below_the_bound(seed, scale, kind, width):
    rng = np.random.default_rng(seed)
    features = scale * rng.standard_normal((20, 12))
    centroids = scale * rng.standard_normal((40, 12)) * rng.uniform(0.1, 1)
    if kind == "outlier column":
        features[:, 3] *= 50
        centroids[:, 3] *= 50
    if kind == "far rows":
        features[:3] *= 100
    if kind == "offset":
        features += 30 * scale
        centroids += 30 * scale
    limited = features.clip(-65504, 65504).astype(np.float16)
    check(limited, centroids.astype(np.float32), width * scale**2)


def test_equal_rows_and_equal_centroids_are_searched():
    check(np.full((20, 5), 0.5, np.float16), np.full((30, 5), 0.25, np.float32))
    check(np.zeros((20, 5), np.float16), np.zeros((30, 5), np.float32))


def test_few_candidates_are_left_of_many_centroids():
    rng = np.random.default_rng(0)
    centers = 2 * rng.standard_normal((600, 96))
    features = (centers[rng.integers(0, 600, 1000)] + rng.standard_normal((1000, 96))).astype(np.float16)
    table = CentroidTable(centers.astype(np.float32))
    found = table.find(table.centre(features), engine="int8")
    assert len(found.rows) < 20 * len(features)
    np.testing.assert_array_equal(found.tokens, nearest(features, table.centroids, engine="faiss").tokens)


def test_a_wish_for_more_candidates_is_met_about_as_far_as_lists_have_room():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((400, 64)).astype(np.float16)
    table = CentroidTable(features[:300].astype(np.float32))
    centred = table.centre(features)
    few, more = (len(table.find(centred, engine="int8", width=width).rows) for width in (0.0, 4.0))
    assert few < more <= 40 * len(features)
