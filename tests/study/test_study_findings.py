"""Findings say what intervals support, and nothing else."""

import re

import pytest
from made_study import CENTRE, interval, level, study_facts

from pipeline.metrics.uncertainty import over_seeds
from pipeline.study.facts import Claim, LayerUse, Share, Spoken
from pipeline.study.statistics.findings import findings
from pipeline.study.statistics.ranking import best_of


def told(levels=(), shares=(), claims=(), layer_use=(), spoken=()):
    return findings(levels, shares, claims, layer_use, spoken, CENTRE)


def said_of(levels, **others):
    return " ".join(line for line in told(levels, **others) if ": " in line and line.startswith(levels[0].task))


CENTRE_LEVEL = level(name="all", values=(0.25, 0.26, 0.27))


def test_a_level_whose_interval_holds_0_is_called_neither_better_nor_worse():
    low = level(name="low", values=(0.24, 0.25, 0.26), difference=interval(-0.01, 0.02))
    said = said_of([CENTRE_LEVEL, low])
    assert "No level can be told from the centre by layers" in said
    assert "low has the best mean, 0.2500 \u00b1 0.0058, which cannot be told apart from the centre" in said
    assert "from the centre: -0.0100 (-0.0300 to +0.0100)" in said
    assert not re.search(r"\b(better|worse)\b", said)


def test_a_level_that_is_told_apart_is_named_with_its_figures():
    low = level(name="low", values=(0.20, 0.21, 0.22), difference=interval(-0.05, 0.02), better="level")
    said = said_of([CENTRE_LEVEL, low])
    assert "The centre has a mean word error rate of 0.2600 \u00b1 0.0058." in said
    assert "By layers, low has the best mean, 0.2100 \u00b1 0.0058, better than the centre" in said
    assert "the centre: -0.0500 (-0.0700 to -0.0300)" in said
    assert "No level" not in said


def test_of_a_metric_where_higher_is_better_the_highest_mean_is_the_best():
    centre = level("sid", name="all", values=(0.8, 0.81, 0.82))
    high = level("sid", name="high", values=(0.9, 0.91, 0.92), difference=interval(0.1, 0.02), better="level")
    low = level("sid", name="low", values=(0.7, 0.71, 0.72), difference=interval(-0.1, 0.02), better="centre")
    said = said_of([centre, high, low])
    assert "By layers, high has the best mean, 0.9100" in said
    assert "worse than the centre: low." in said


def test_the_best_mean_is_not_called_better_where_another_level_alone_is_told_apart():
    wide = level(name="wide", values=(0.19, 0.2, 0.21), difference=interval(-0.06, 0.08))
    sure = level(name="sure", values=(0.22, 0.23, 0.24), difference=interval(-0.03, 0.01), better="level")
    said = said_of([CENTRE_LEVEL, wide, sure])
    assert "wide has the best mean, 0.2000 \u00b1 0.0058, which cannot be told apart from the centre" in said
    assert "better than the centre too: sure." in said


def test_where_the_centre_is_the_best_no_level_is_said_to_be_better():
    low = level(name="low", values=(0.3, 0.31, 0.32), difference=interval(0.05, 0.02), better="centre")
    said = said_of([CENTRE_LEVEL, low])
    assert "By layers, the centre has the best mean; worse than the centre: low." in said
    assert "better than" not in said


def test_the_number_of_comparisons_comes_with_that_of_chance():
    low = level(name="low", difference=interval(-0.05, 0.02), better="level")
    others = [level(factor="num_clusters", name=str(k), difference=interval(0.0, 0.1)) for k in range(39)]
    first = told([CENTRE_LEVEL, low, *others])[0]
    assert first.startswith("Of 40 comparisons")
    assert "1 can be told apart at 95 %" in first
    assert "2.0 would be so by chance" in first


def test_the_factor_with_the_largest_share_is_named_and_what_seeds_leave():
    shares = [Share(task="asr", factor=name, share=share)
              for name, share in (("layers", 0.2), ("num_clusters", 0.5), ("seeds", 0.3))]  # fmt: skip
    said = said_of([CENTRE_LEVEL], shares=shares)
    assert "num_clusters explains the largest share of the variance of trials, 50.0 %; 30.0 % is left to seeds" in said


def test_where_seeds_leave_more_than_any_factor_explains_that_is_said():
    shares = [Share(task="asr", factor=name, share=share) for name, share in (("layers", 0.2), ("seeds", 0.8))]
    assert "80.0 % is more than any factor explains" in said_of([CENTRE_LEVEL], shares=shares)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((0.30, 0.31, 0.32), "highest mean weight, 0.4100 \u00b1 0.0058; layer_03 follows, 0.3100 \u00b1 0.0058."),
        ((0.39, 0.40, 0.41), "but by the standard errors it cannot be told apart from layer_03, 0.4000 \u00b1 0.0058."),
    ],
)
def test_a_weight_is_told_from_the_next_only_beyond_their_standard_errors(second, expected):
    weights = (over_seeds(list(second)), over_seeds([0.40, 0.41, 0.42]))
    use = LayerUse(task="asr", layers=("layer_03", "layer_06"), weights=weights)
    assert expected in said_of([CENTRE_LEVEL], layer_use=[use])


def test_weights_of_one_seed_are_not_called_sure():
    use = LayerUse(task="asr", layers=("layer_03", "layer_06"), weights=(over_seeds([0.3]), over_seeds([0.7])))
    said = said_of([CENTRE_LEVEL], layer_use=[use])
    assert "layer_06 has the highest mean weight, 0.7000 (one seed)" in said
    assert "one seed does not say how sure this is" in said


def test_claims_are_named_by_their_verdicts():
    claims = [Claim(text=text, verdict=verdict, evidence=(), why="")
              for text, verdict in (("A.", "held"), ("B", "not decidable"), ("C", "held"))]  # fmt: skip
    said = told(claims=claims)
    assert 'Of 3 claims of the paper, 2 held ("A", "C"); 1 cannot be decided ("B").' in said
    assert not any("did not hold" in line for line in said)


def test_a_vocoder_for_several_sets_is_compared_with_those_for_one_by_standard_errors():
    figures = {
        ("all", "low"): 0.9,
        ("all", "one"): 0.8,
        ("single", "one"): 0.7,
        ("all", "two"): 0.6,
        ("s2", "two"): 0.6,
    }
    spoken = [
        Spoken(vocoder=vocoder, condition=condition, metric="log_mel_distance", figure=over_seeds([mean, mean + 0.01]))
        for (vocoder, condition), mean in figures.items()
    ]
    said = said_of([level("vocoder", name="all")], spoken=spoken)
    assert "Mean log-mel distance of all against vocoders trained on a set of layers alone" in said
    assert "one 0.8050 \u00b1 0.0050 against 0.7050 \u00b1 0.0050 (worse)" in said
    assert "two 0.6050 \u00b1 0.0050 against 0.6050 \u00b1 0.0050 (cannot be told apart)" in said


def test_a_study_without_comparisons_says_so():
    assert told() == [f"No level was compared with the centre ({', '.join(f'{k} {v}' for k, v in CENTRE.items())})."]


@pytest.mark.parametrize("side", ["level", "centre"])
def test_levels_that_findings_call_better_or_worse_are_those_that_are_told_apart(side):
    facts = study_facts()
    words = "better" if side == "level" else "worse"
    for task in facts.tasks:
        for factor in facts.factors:
            those = [found for found in facts.levels if (found.task, found.factor) == (task, factor)]
            said = " ".join(line for line in facts.findings if line.startswith(f"{task}: By {factor},"))
            parts = [part for part in said.removesuffix(".").split("; ") if f"{words} than the centre" in part]
            named = [part.split(" has ")[0].partition(", ")[2] if " has " in part else part.partition(": ")[2]
                     for part in parts]  # fmt: skip
            expected = [found for found in those if found.better == side]
            expected.sort(key=lambda found: found is not best_of(those))
            assert ", ".join(named) == ", ".join(found.level for found in expected)
