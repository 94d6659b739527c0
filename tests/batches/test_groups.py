"""Utterances of about one length share a micro-batch: cut to the shortest, or padded to the longest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokens import CLOCK

from pipeline.batches.groups import group_by_length


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 800), max_size=80),
    longest=st.integers(5, 500),
    max_samples=st.integers(400, 400_000),
    seed=st.integers(0, 5),
)
def test_groups_hold_every_row_once_within_their_limits_and_cut_little(lengths, longest, max_samples, seed):
    groups = group_by_length(
        lengths, longest=longest, size=CLOCK.num_samples, most=max_samples, rng=np.random.default_rng(seed)
    )
    assert sorted(row for group in groups for row in group.rows) == list(range(len(lengths)))
    for group in groups:
        wanted = [min(lengths[row], longest) for row in group.rows]
        assert group.num_frames == min(wanted)
        assert set(group.lengths) == {group.num_frames}
        assert max(wanted) <= 1.2 * group.num_frames
        assert len(group.rows) == 1 or len(group.rows) * CLOCK.num_samples(group.num_frames) <= max_samples


def test_of_lengths_as_of_real_speech_less_than_a_twentieth_is_cut():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(4, 150, 2000), 50, 1500).astype(int).tolist()
    groups = group_by_length(lengths, longest=800, size=CLOCK.num_samples, most=16_000 * 88, rng=rng)
    kept = sum(group.num_frames * len(group.rows) for group in groups)
    assert kept > 0.95 * sum(min(length, 800) for length in lengths)
    # Long and short come in turns.
    order = np.array([group.num_frames for group in groups])
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.3


def test_groups_are_the_same_for_the_same_chance_and_others_for_another():
    lengths = list(range(20, 120))
    made = [
        group_by_length(lengths, longest=90, size=CLOCK.num_samples, most=100_000, rng=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 800), max_size=80),
    longest=st.integers(5, 500),
    max_samples=st.integers(400, 400_000),
    seed=st.integers(0, 5),
)
def test_padded_groups_keep_every_length_and_count_their_padding(lengths, longest, max_samples, seed):
    groups = group_by_length(
        lengths, longest=longest, size=CLOCK.num_samples, most=max_samples, rng=np.random.default_rng(seed), pad=True
    )
    assert sorted(row for group in groups for row in group.rows) == list(range(len(lengths)))
    for group in groups:
        assert list(group.lengths) == [min(lengths[row], longest) for row in group.rows]
        assert group.num_frames == max(group.lengths) <= 1.2 * min(group.lengths)
        assert len(group.rows) == 1 or len(group.rows) * CLOCK.num_samples(group.num_frames) <= max_samples


def test_a_padded_group_takes_as_many_rows_as_fit():
    """Ten of 100 frames and one of 110, which would make the others longer than the budget allows."""
    most = 10 * CLOCK.num_samples(100)
    groups = group_by_length(
        [100] * 10 + [110], longest=500, size=CLOCK.num_samples, most=most, rng=np.random.default_rng(0), pad=True
    )
    assert sorted(len(group.rows) for group in groups) == [1, 10]


def test_of_lengths_as_of_real_speech_less_than_a_twentieth_is_padding():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(4, 150, 2000), 50, 1500).astype(int).tolist()
    groups = group_by_length(lengths, longest=1500, size=CLOCK.num_samples, most=16_000 * 88, rng=rng, pad=True)
    computed = sum(group.num_frames * len(group.rows) for group in groups)
    assert sum(lengths) > 0.95 * computed


@pytest.mark.parametrize("pad", [False, True])
def test_no_utterances_make_no_groups(pad):
    assert group_by_length([], longest=9, size=int, most=9, rng=np.random.default_rng(0), pad=pad) == []
