"""Intervals hold what they should, repeat, and pair what is compared."""

import numpy as np
import pytest

from pipeline.metrics.uncertainty import bootstrap_interval, difference, over_seeds, rate


def test_an_interval_of_a_mean_is_that_of_the_normal_distribution():
    errors = np.array([0, 1] * 200)
    found = bootstrap_interval(rate(errors, np.ones(400)), 400, draws=4000)
    half = 1.96 * 0.5 / 20
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.006)
    assert found.high == pytest.approx(0.5 + half, abs=0.006)


def test_an_interval_is_the_same_for_the_same_seed():
    errors = np.arange(20)
    one, again, other = (bootstrap_interval(rate(errors, errors + 1), 20, seed=seed) for seed in (3, 3, 4))
    assert one == again != other


def test_a_constant_difference_has_no_spread_however_much_utterances_differ():
    errors = np.random.default_rng(0).integers(0, 50, 30)
    ones = np.ones(30)
    found = bootstrap_interval(difference(rate(errors + 1, ones), rate(errors, ones)), 30)
    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(1)


def test_seeds_have_the_mean_and_standard_error_counted_by_hand():
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.runs) == (2.0, 3)
    assert found.standard_error == pytest.approx(1 / np.sqrt(3))
    assert over_seeds([4.0]).standard_error is None


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="need utterances"):
        bootstrap_interval(lambda drawn: 0.0, 0)
    with pytest.raises(ValueError, match="no runs"):
        over_seeds([])
