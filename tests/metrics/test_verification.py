"""EER and minDCF against hand computations, with ties, and what no order of trials changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.verification import cosine_scores, equal_error_rate, min_dcf, operating_points

TRIALS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda trials: len({same for _, same in trials}) == 2
)


def points(scores, same):
    return operating_points(np.array(scores, float), np.array(same, bool))


def test_eer_is_that_computed_by_hand():
    # Accepting at 3 or more: one of four targets missed, one of four nontargets accepted.
    found = points([4, 4, 3, 1, 3, 2, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0])
    assert equal_error_rate(found) == 0.25


def test_scores_that_are_all_alike_have_an_eer_of_a_half():
    found = points([1, 1, 1, 1, 1], [1, 0, 0, 0, 0])
    assert equal_error_rate(found) == 0.5
    assert min_dcf(found) == 1.0


def test_scores_that_tell_all_trials_apart_have_no_error_and_reversed_ones_nothing_else():
    assert equal_error_rate(points([2, 3, 0, 1], [1, 1, 0, 0])) == 0
    assert min_dcf(points([2, 3, 0, 1], [1, 1, 0, 0])) == 0
    assert equal_error_rate(points([2, 3, 0, 1], [0, 0, 1, 1])) == 1


def test_min_dcf_is_that_computed_by_hand():
    # At 5: one of two missed, none accepted: 0.1 * 0.5 = 0.05. At 3: none missed, one of four: 0.9 * 0.25 = 0.225.
    found = points([5, 3, 4, 1, 1, 0], [1, 1, 0, 0, 0, 0])
    assert min_dcf(found, p_target=0.1) == pytest.approx(0.05 / 0.1)
    # A miss of ten times the cost: 0.5 at 5, 0.225 at 3; normalised by 0.9, the cost of accepting all.
    assert min_dcf(found, p_target=0.1, c_miss=10) == pytest.approx(0.225 / 0.9)


@given(TRIALS, st.randoms())
def test_figures_depend_on_no_order_of_trials_and_no_scale_of_scores(trials, random):
    before = points(*zip(*trials, strict=True))
    random.shuffle(trials)
    scores, same = zip(*trials, strict=True)
    after = points([7 * score - 3 for score in scores], same)
    assert equal_error_rate(before) == equal_error_rate(after)
    assert min_dcf(before) == min_dcf(after)
    assert 0 <= equal_error_rate(before) <= 1
    assert 0 <= min_dcf(before) <= 1


@given(TRIALS)
def test_errors_at_each_threshold_are_those_of_accepting_from_it_on(trials):
    scores, same = (np.array(column) for column in zip(*trials, strict=True))
    found = points(scores, same)
    for threshold, misses, alarms in zip(found.thresholds, found.misses, found.false_alarms, strict=True):
        assert misses == pytest.approx(np.mean(scores[same] < threshold))
        assert alarms == pytest.approx(np.mean(scores[~same] >= threshold))


def test_trials_of_one_kind_are_refused():
    with pytest.raises(ValueError, match="both kinds"):
        points([1, 2], [1, 1])


def test_scores_are_cosines_and_an_embedding_without_direction_is_refused():
    vectors = np.array([[1.0, 0], [5, 0], [0, 2], [-3, 0]])
    found = cosine_scores(vectors, np.array([0, 0, 0]), np.array([1, 2, 3]))
    np.testing.assert_allclose(found, [1, 0, -1])
    with pytest.raises(ValueError, match="direction"):
        cosine_scores(np.zeros((1, 2)), np.array([0]), np.array([0]))
