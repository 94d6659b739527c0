"""Whole fits against Lloyd's algorithm as a textbook writes it, distances in integers: every tie is a true one."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.kmeans.fit.lloyd import RunningSums, inertia, sum_squares, update
from pipeline.kmeans.search.assignment import nearest

ITERATIONS = 6
MOST_ROWS = 40

grids = st.integers(0, 3).map(np.float16)
gentle = st.floats(-8, 8, width=16).map(np.float16)
any_finite = st.integers(-0x7BFF, 0x7BFF).map(lambda bits: np.copysign(np.uint16(abs(bits)).view(np.float16), bits))


@st.composite
def problems(draw, values):
    """Rows float16 (N, D), many of them equal, and K distinct ones of them as first centroids."""
    shape = (draw(st.integers(2, MOST_ROWS)), draw(st.integers(1, 3)))
    features = draw(arrays(np.float16, shape, elements=values, fill=st.nothing()))
    distinct = np.unique(features + np.float16(0), axis=0)
    picks = draw(st.lists(st.integers(0, len(distinct) - 1), min_size=1, max_size=7, unique=True))
    return features, distinct[picks].astype(np.float32)


def fit(features, centroids, iterations):
    """Run the pieces under test: tokens and inertia of each iteration, and the last centroids."""
    tokens, history = [], []
    running, squares = RunningSums(*centroids.shape), sum_squares(features)
    before = np.full(len(features), -1)
    for _ in range(iterations):
        tokens.append(nearest(features, centroids).tokens)
        running.move(features, before, tokens[-1])
        before, sums = tokens[-1], running.total()
        history.append(inertia(sums, squares, centroids))
        centroids = update(sums, centroids).centroids
    return tokens, history, centroids


def whole(values):
    """Values in units of 2^-149, of which every float32 is a multiple, as Python integers."""
    return np.array([[int(value) for value in row] for row in values.astype(np.float64) * 2.0**149], object)


def textbook_fit(features, centroids, iterations):
    """The same, up to the iteration that would leave a cluster empty."""
    exact, wide = whole(features), features.astype(np.float64)
    tokens, inertia = [], []
    for _ in range(iterations):
        squares = ((exact[:, None] - whole(centroids)) ** 2).sum(-1)
        nearest_one = squares.argmin(1)
        if len(set(nearest_one.tolist())) < len(centroids):
            break
        tokens.append(nearest_one)
        inertia.append(float(Fraction(squares.min(1).sum(), 2**298)))
        means = [wide[nearest_one == cluster].mean(0) for cluster in range(len(centroids))]
        centroids = np.array(means).astype(np.float32)
    return tokens, inertia, centroids


def compare(features, centroids):
    tokens, inertia, last = textbook_fit(features, centroids, ITERATIONS)
    assert tokens, "each first centroid is a row, so no cluster begins empty"
    found_tokens, found_inertia, found_last = fit(features, centroids, len(tokens))
    np.testing.assert_array_equal(found_tokens, tokens)
    # Each norm is rounded to 2^-24, and the inertia is what float64 leaves of the sum of all norms.
    norms = float((features.astype(np.float64) ** 2).sum())
    np.testing.assert_allclose(found_inertia, inertia, rtol=1e-13, atol=len(features) * 2.0**-25 + 1e-14 * norms)
    # Sums of float16 are exact in float64 here, so the means are rounded once, by division, and then to float32.
    np.testing.assert_array_equal(found_last, last)


@settings(max_examples=80, deadline=None)
@given(problems(grids))
def test_a_fit_of_a_small_grid_full_of_ties_is_the_textbooks(problem):
    compare(*problem)


@settings(max_examples=40, deadline=None)
@given(problems(gentle))
def test_a_fit_of_ordinary_values_is_the_textbooks(problem):
    compare(*problem)


@settings(max_examples=40, deadline=None)
@given(problems(any_finite))
def test_a_fit_of_any_float16_is_the_textbooks(problem):
    compare(*problem)


def test_ties_arise_in_these_problems_and_go_to_the_lower_index():
    features = np.array([[0], [1], [2], [2], [3]], np.float16)
    tokens, inertia, last = fit(features, np.array([[2], [0]], np.float32), 2)
    assert tokens[0].tolist() == [1, 0, 0, 0, 0]
    assert inertia[0] == 2
    assert last.tolist() == [[2], [0]]
    assert fit(features, np.array([[0], [2]], np.float32), 1)[0][0].tolist() == [0, 0, 1, 1, 1]
