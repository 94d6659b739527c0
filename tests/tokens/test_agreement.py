import numpy as np
import pytest

from pipeline.tokens.agreement import agreement, checked_units, from_notes, pick_utterances


def test_a_few_shards_spread_over_the_corpus_are_checked():
    units = [f"shard-{n:05d}" for n in range(1000)]
    chosen = checked_units(units, 2_000)
    assert list(chosen) == ["shard-00125", "shard-00375", "shard-00625", "shard-00875"]
    assert sum(chosen.values()) == 2_000
    assert checked_units(units[:1], 2_000) == {"shard-00000": 2_000}
    assert sum(checked_units(units[:3], 2_000).values()) >= 2_000
    assert checked_units(units, 0) == {}


def test_the_same_utterances_are_picked_in_any_order_until_they_suffice():
    lengths = {f"u{n}": 10 + n for n in range(50)}
    picked = pick_utterances(lengths, 100)
    assert picked == pick_utterances(dict(reversed(lengths.items())), 100)
    held = [lengths[name] for name in picked]
    assert sum(held) >= 100 > sum(held[:-1])
    assert len(pick_utterances(lengths, 10**6)) == 50


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
