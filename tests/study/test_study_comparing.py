"""Differences are paired by seed and utterance, and called differences only where the interval does not hold 0."""

import numpy as np
import pytest
from made_trials import runs_of

from pipeline.study.facts import SEEDS
from pipeline.study.metrics import Part, part
from pipeline.study.statistics.comparing import Runs, level_of, paired, shares, value_of

NOISE = np.random.default_rng(0).integers(0, 4, size=60).tolist()


def test_a_rate_is_a_ratio_of_sums():
    parts = {"a": Part(numerator=1.0, denominator=2.0), "b": Part(numerator=0.0, denominator=8.0)}
    assert value_of(parts) == pytest.approx(0.1)


def test_an_average_recall_weighs_each_class_alike():
    rows = [("a", "a"), ("a", "a"), ("a", "a"), ("b", "a")]
    parts = {str(n): part("uar", {"reference": said, "hypothesis": heard}) for n, (said, heard) in enumerate(rows)}
    assert value_of(parts) == pytest.approx(0.5)
    one = {name: each for name, each in parts.items() if each.group == "a"}
    assert value_of(one) == 1


def test_a_level_is_better_where_every_utterance_has_fewer_errors():
    worse = [errors + 3 for errors in NOISE]
    found = level_of("asr", "wer", "layers", "all", runs_of(NOISE, NOISE), runs_of(worse, worse))
    assert found.difference.value == pytest.approx(-0.3)
    assert found.difference.low == pytest.approx(found.difference.high) == pytest.approx(-0.3)
    assert found.better == "level"
    other = level_of("asr", "wer", "layers", "low", runs_of(worse, worse), runs_of(NOISE, NOISE))
    assert other.better == "centre"
    assert level_of("sid", "accuracy", "f", "l", runs_of(worse, worse), runs_of(NOISE, NOISE)).better == "level"


def test_one_seed_calls_nothing_better():
    worse = [errors + 3 for errors in NOISE]
    found = level_of("sid", "accuracy", "f", "l", runs_of(worse), runs_of(NOISE, NOISE))
    assert found.difference.low > 0
    assert found.better is None


def test_a_level_whose_interval_holds_0_is_no_difference():
    shuffled = np.random.default_rng(1).permutation(NOISE).tolist()
    found = level_of("asr", "wer", "layers", "all", runs_of(NOISE, shuffled), runs_of(shuffled, NOISE))
    assert found.difference.low < 0 < found.difference.high
    assert found.better is None


def test_seeds_that_disagree_widen_the_interval():
    first, second, base = [0] * 60, [2] * 60, [1] * 60
    apart = paired(runs_of(first, second), runs_of(base, base))
    assert (apart.low, apart.value, apart.high) == pytest.approx((-0.1, 0.0, 0.1))


def test_pairing_sees_what_two_intervals_apart_would_not():
    hard = [0, 10] * 30
    easier = [max(0, errors - 1) for errors in hard]
    found = paired(runs_of(easier), runs_of(hard))
    alone = np.std([np.mean(np.random.default_rng(n).choice(hard, 60)) / 10 for n in range(200)])
    assert found.high < 0
    assert found.high - found.low < 2 * alone


def test_only_seeds_and_utterances_that_both_have_are_compared():
    longer = runs_of([1, 1, 9], [1, 1, 9], [9, 9, 9])
    assert paired(longer, runs_of([1, 1], [1, 1])).value == 0
    assert paired(runs_of([1]), Runs(trials={}, parts={}, bits_per_second=1.0)) is None


def test_the_same_trials_give_the_same_interval_again():
    pair = runs_of(NOISE, NOISE[::-1]), runs_of(NOISE[::-1], NOISE)
    assert paired(*pair) == paired(*pair)


def test_shares_follow_a_hand_calculation():
    layers = {"low": runs_of([3], [5]), "all": runs_of([1], [3])}
    clusters = {"4": runs_of([2], [2]), "8": runs_of([1], [3])}
    found = {each.factor: each.share for each in shares("asr", {"layers": layers, "num_clusters": clusters})}
    # Layers: means 0.4 and 0.2, variance 0.02, less 0.01 for two seeds each of variance 0.02; half, for two levels.
    # Clusters: means alike. Seeds: the mean of 0.02, 0.02, 0 and 0.02.
    total = 0.005 + 0.015
    assert found == pytest.approx({"layers": 0.005 / total, "num_clusters": 0.0, SEEDS: 0.015 / total})


def test_one_seed_explains_nothing():
    assert shares("asr", {"layers": {"low": runs_of([3]), "all": runs_of([1])}}) == []
