"""The claims of the paper are decided by intervals: each verdict from numbers that make it so."""

import pytest
from made_trials import PLAN, laid_of

from pipeline.study.statistics.assembling import assemble
from pipeline.study.statistics.claims import claims

TEXT = (
    PLAN.format(encoder="small")
    + """
[corpora.other]
corpus = "other"
layout = "folder"

[factors.domain]
tasks = ["vocoder", "asr", "er"]
levels.own = { codebooks_of = ["own"] }
levels.other = { codebooks_of = ["other"] }

[factors.initialisation]
tasks = ["asr", "er"]
levels.random = { embedding_init = "random" }
levels.centroids = { embedding_init = "centroids" }

[factors.height]
tasks = ["asr", "vocoder"]
levels.high = { layers = [3] }
levels.both = { layers = [1, 3] }
"""
)
ATTENTION, SCALABLE, LOW, CLUSTERS, INIT, DOMAIN, FOREIGN = range(7)


def verdict(number, errors):
    claim = claims(laid_of(TEXT, errors))[number]
    return claim.verdict


def test_without_a_difference_nothing_is_decidable():
    assert {claim.verdict for claim in claims(laid_of(TEXT, {}))} == {"not decidable"}


@pytest.mark.parametrize(
    ("number", "errors", "expected"),
    [
        (ATTENTION, {("asr", "centre"): 3}, "held"),
        (ATTENTION, {("asr", "low"): 3}, "not held"),
        (ATTENTION, {("asr", "low"): 7, ("asr", "high"): 3}, "not held"),
        (ATTENTION, {("asr", "centre"): 3, ("se", "low"): 3}, "not decidable"),
        (SCALABLE, {("vocoder", "centre"): 3}, "held"),
        (SCALABLE, {("vocoder", "low"): 3, ("vocoder", "high"): 3}, "not held"),
        (SCALABLE, {("vocoder", "centre", "all"): 3, ("vocoder", "centre", "layer_01"): 7}, "not decidable"),
        (LOW, {("vocoder", "low"): 3, ("asr", "high"): 3}, "held"),
        (LOW, {("vocoder", "high"): 3}, "not held"),
        (LOW, {("vocoder", "low"): 3, ("asr", "low"): 3}, "not decidable"),
        (INIT, {("asr", "centroids"): 3, ("er", "centroids"): 3}, "held"),
        (INIT, {("asr", "centroids"): 3, ("er", "centroids"): 7}, "not held"),
        (INIT, {("asr", "centroids"): 3}, "not decidable"),
        (DOMAIN, {("asr", "other"): 3, ("vocoder", "other"): 7}, "held"),
        (FOREIGN, {("vocoder", "other"): 3}, "held"),
        (FOREIGN, {("vocoder", "other"): 7}, "not held"),
        (FOREIGN, {("asr", "other"): 3}, "not decidable"),
    ],
)  # fmt: skip
def test_a_verdict_follows_its_rule(number, errors, expected):
    # er is judged by recall, of which more is better.
    assert verdict(number, errors) == expected


def test_one_seed_decides_nothing():
    one = TEXT.replace("seeds = [0, 1]", "seeds = [0]")
    found = claims(laid_of(one, {("asr", "centre"): 3, ("vocoder", "centre"): 3, ("er", "centroids"): 7}))
    assert {claim.verdict for claim in found} == {"not decidable"}
    assert found[ATTENTION].why == "No interval of two seeds or more excludes 0."
    assert all(each.speaks is None for claim in found for each in claim.evidence)


def test_a_study_that_does_not_ask_says_so():
    both = PLAN.format(encoder="small").replace("= { layers = [1] }", "= { layers = [1], num_clusters = 4 }")
    found = claims(laid_of(both, {}))
    assert (
        found[ATTENTION].why
        == "The study does not ask: no task has both a centre of several layers, fused by attention, and one of one."
    )
    assert found[ATTENTION].evidence == ()


def test_a_centre_without_attention_says_nothing_of_attention():
    mean = TEXT.replace("[tasks.asr]\n", '[tasks.asr]\nfusion = "mean"\n')
    found = {name: laid_of(text, {("asr", "centre"): 3}) for name, text in (("attention", TEXT), ("mean", mean))}
    tried = {name: [each.text[:3] for each in claims(laid)[ATTENTION].evidence] for name, laid in found.items()}
    assert tried == {"attention": ["asr", "se:", "tts"], "mean": ["se:", "tts"]}
    shown = {name: assemble(laid, costs=(), failures=(), told=()).layer_use for name, laid in found.items()}
    assert {use.task for use in shown["attention"]} - {use.task for use in shown["mean"]} == {"asr"}


def test_token_errors_of_other_tokens_are_not_compared():
    text = TEXT.replace('test = "noisy_test"\nmetric = "cer"\n', 'test = "noisy_test"\n')
    facts = assemble(laid_of(text, {("se", "low"): 1}), costs=(), failures=(), told=())
    mine = {level.level: level for level in facts.levels if level.task == "se" and level.factor == "layers"}
    assert mine["low"].figure.mean == pytest.approx(0.1, abs=0.01)
    assert (mine["low"].difference, mine["low"].better) == (None, None)
    assert not [share for share in facts.shares if share.task == "se"]


def test_the_centre_speaks_each_set_of_layers_and_other_vocoders_theirs():
    facts = assemble(laid_of(TEXT, {("vocoder", "high"): 7}), costs=(), failures=(), told=())
    told = {(each.vocoder, each.condition): each.figure.mean for each in facts.spoken}
    assert set(told) == {("centre", "all"), ("centre", "layer_01"), ("centre", "layer_03"), ("low", "layer_01"),
                         ("high", "layer_03")}  # fmt: skip
    assert told["high", "layer_03"] == pytest.approx(0.7, abs=0.01)
