from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kmeans.search.assignment import CentroidTable, nearest
from pipeline.kmeans.search.centred import Scratch
from pipeline.kmeans.search.screening import is_exact

pytestmark = pytest.mark.skipif(not is_exact(), reason="this processor has no exact int8 products")


def true_scores(row, centroids, mean):
    """(x - m) . (c - m) - |c - m|^2 / 2 of one row and every centroid, in rational numbers."""
    x = [Fraction(a) - Fraction(m) for a, m in zip(row.tolist(), mean.tolist(), strict=True)]
    scores = []
    for centroid in centroids.tolist():
        c = [Fraction(a) - Fraction(m) for a, m in zip(centroid, mean.tolist(), strict=True)]
        scores.append(sum((a * b - b * b / 2 for a, b in zip(x, c, strict=True)), Fraction(0)))
    return scores


def check(features, centroids, movers=()):
    """Every bound that a search gives is above the true score of each centroid it stands for."""
    table, scratch = CentroidTable(centroids), Scratch()
    centred, mean = table.centre(features, scratch), table._float32[0]
    found = table.find(centred, engine="int8", with_lists=True)
    some = np.array(movers, np.int64)
    listed = np.arange(len(features)), np.arange(len(features)) % max(1, len(some))
    highest = table.highest(centred, some, listed, engine="int8") if len(some) else None
    for row in range(len(features)):
        scores = true_scores(features[row], centroids, mean)
        columns = found.columns[found.rows == row].tolist()
        assert int(found.tokens[row]) in columns
        assert scores.index(max(scores)) in columns
        assert_above(found.outer[row], scores, set(columns))
        names = found.lists.columns[row, : found.lists.sizes[row]].tolist()
        assert len(set(names)) == len(names) >= 1
        assert_above(found.lists.outer[row], scores, set(names))
        if highest is not None:
            counted = set(some.tolist()) - {int(some[listed[1][row]])}
            assert_above(highest[row], scores, set(range(len(scores))) - counted)
    return found


def assert_above(bound, scores, without):
    others = [score for column, score in enumerate(scores) if column not in without]
    if others and np.isfinite(bound):
        assert max(others) <= Fraction(float(bound))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([2.0**-24, 1e-3, 1.0, 300.0, 3e4]),
    st.sampled_from(["plain", "outlier column", "far rows", "offset", "few centroids"]),
    st.sets(st.integers(0, 5), max_size=4),
)
def test_what_is_left_out_is_below_the_bound(seed, scale, kind, movers):
    rng = np.random.default_rng(seed)
    features = scale * rng.standard_normal((20, 12))
    centroids = scale * rng.standard_normal((6 if kind == "few centroids" else 40, 12)) * rng.uniform(0.1, 1)
    if kind == "outlier column":
        features[:, 3] *= 50
        centroids[:, 3] *= 50
    if kind == "far rows":
        features[:3] *= 100
    if kind == "offset":
        features += 30 * scale
        centroids += 30 * scale
    limited = features.clip(-65504, 65504).astype(np.float16)
    check(limited, centroids.astype(np.float32), sorted(movers))


def test_equal_rows_and_equal_centroids_are_searched():
    check(np.full((20, 5), 0.5, np.float16), np.full((30, 5), 0.25, np.float32))
    check(np.zeros((20, 5), np.float16), np.zeros((30, 5), np.float32))


def test_few_candidates_are_left_of_many_centroids():
    rng = np.random.default_rng(0)
    centers = 2 * rng.standard_normal((600, 96))
    features = (centers[rng.integers(0, 600, 1000)] + rng.standard_normal((1000, 96))).astype(np.float16)
    table = CentroidTable(centers.astype(np.float32))
    found = table.find(table.centre(features, Scratch()), engine="int8")
    assert len(found.rows) < 20 * len(features)
    np.testing.assert_array_equal(found.tokens, nearest(features, table.centroids, engine="faiss").tokens)


def test_some_rows_have_the_rounding_of_all():
    """What was rounded for a block is used again for those of its rows that are searched."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((400, 64)).astype(np.float16)
    table, scratch = CentroidTable(features[:300].astype(np.float32)), Scratch()
    centred = table.centre(features, scratch)
    table.highest(centred, np.arange(5), (np.arange(3), np.arange(3)), engine="int8")
    some = np.arange(1, 400, 3)
    found = table.find(centred.take(some), engine="int8", with_lists=True)
    np.testing.assert_array_equal(found.tokens, nearest(features[some], table.centroids, engine="faiss").tokens)
    assert (found.lists.columns[:, 0] == found.tokens).mean() > 0.9
