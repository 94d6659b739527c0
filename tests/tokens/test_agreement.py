import numpy as np
import pytest

from pipeline.tokens.agreement import agreement, checked_units, from_notes, pick_utterances


def test_a_few_shards_spread_over_the_corpus_are_checked():
    units = [f"shard-{n:05d}" for n in range(1000)]
    assert checked_units(units) == [f"shard-{n:05d}" for n in (62, 187, 312, 437, 562, 687, 812, 937)]
    assert checked_units(units[:1]) == ["shard-00000"]
    assert checked_units(units[:3]) == units[:3]
    assert checked_units([]) == []


def test_the_same_utterances_are_picked_in_any_order_until_they_suffice():
    seconds = {f"u{n}": 1.0 + n / 10 for n in range(50)}

    def pick(candidates, wanted):
        return pick_utterances(candidates, wanted_seconds=wanted, budget_seconds=1e9, dtype="float32")

    picked = pick(seconds, 10)
    assert picked == pick(dict(reversed(seconds.items())), 10)
    assert 10 <= sum(seconds[name] for name in picked) < 10 + max(seconds.values())
    assert pick(seconds, 5) < picked
    assert len(pick(seconds, 1e6)) == 50
    assert pick({"long": 61.0, "short": 59.0}, 1e6) == {"short"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_picked_never_costs_more_than_the_budget(dtype):
    rng = np.random.default_rng(0)
    counts = []
    for total in 10 ** rng.uniform(0, 6, 200):
        seconds = {f"u{n}": float(rng.uniform(0.3, 20)) for n in range(40)}
        budget = 0.02 * total
        picked = pick_utterances(seconds, wanted_seconds=40, budget_seconds=budget, dtype=dtype)
        assert sum(seconds[name] for name in picked) <= budget / (1 if dtype == "float32" else 3)
        counts.append(len(picked))
    assert min(counts) == 0
    assert max(counts) > 3


def test_perfect_agreement_still_has_a_bound_below_one_that_frames_narrow():
    few, many = agreement([(1_000, 1_000)] * 2), agreement([(1_000, 1_000)] * 20)
    assert few.equal == many.equal == 1
    assert few.low == pytest.approx(1 - 1.96**2 / (2_000 + 1.96**2))
    assert few.low < many.low < 1


def test_the_bound_holds_in_nineteen_of_twenty_draws_although_frames_of_an_utterance_resemble_each_other():
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1_000):
        counts = [(200, int(rng.binomial(200, rng.beta(98, 2)))) for _ in range(40)]
        missed += agreement(counts).low > 0.98
    # One-sided: 2.5 % of a two-sided 95 % interval, and slack for 40 clusters only.
    assert missed < 50
    naive = sum(agreement([(8_000, int(8_000 * rng.beta(98, 2)))]).low > 0.98 for _ in range(200))
    assert naive > 50


def test_counts_of_several_commits_are_joined_by_layer():
    notes = [
        {"agreement": {"layer_02": [[10, 9]], "layer_04": [[10, 10]]}},
        {},
        {"agreement": {"layer_02": [[30, 30]]}},
    ]
    found = from_notes(notes)
    assert list(found) == ["layer_02", "layer_04"]
    assert (found["layer_02"].frames, found["layer_02"].utterances, found["layer_02"].equal) == (40, 2, 39 / 40)
    with pytest.raises(ValueError, match="at least one frame"):
        agreement([])
