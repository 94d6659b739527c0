"""Masks: spans, at least one frame and never all, as many as HuBERT's rule gives, and the same for the same key."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pretraining.masking import span_mask
from pipeline.seeds import rng, torch_seed


@given(
    num_frames=st.integers(2, 400),
    probability=st.floats(0.01, 1.0),
    length=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_some_frames_are_masked_and_some_are_not(num_frames, probability, length, seed):
    mask = span_mask(num_frames, probability=probability, length=length, rng=np.random.default_rng(seed))
    assert mask.shape == (num_frames,)
    assert mask.dtype == bool
    assert 0 < mask.sum() < num_frames


@given(
    num_frames=st.integers(20, 400),
    probability=st.floats(0.01, 0.7),
    length=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_masked_frames_lie_in_spans_of_the_length_asked_for(num_frames, probability, length, seed):
    mask = span_mask(num_frames, probability=probability, length=length, rng=np.random.default_rng(seed))
    edges = np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0]))
    runs = edges[1::2] - edges[::2]
    # Spans may touch or overlap, so runs may be longer; where all were masked one frame is heard after all.
    assert (runs >= length).all() or mask.sum() == num_frames - 1


def test_a_crop_shorter_than_two_spans_gets_spans_of_half_its_length():
    for seed in range(50):
        mask = span_mask(9, probability=0.1, length=10, rng=np.random.default_rng(seed))
        assert mask.sum() == 4


@pytest.mark.parametrize(("num_frames", "probability", "length"), [(100, 0.65, 10), (780, 0.65, 10), (250, 0.8, 10)])
def test_as_many_frames_are_masked_as_by_the_rule_of_wav2vec_and_hubert(num_frames, probability, length):
    """Against transformers' own rule, whose spans start anywhere but in the last ``length`` frames."""
    from transformers.models.hubert.modeling_hubert import _compute_mask_indices

    chance = np.random.default_rng(0)
    ours = np.mean(
        [span_mask(num_frames, probability=probability, length=length, rng=chance).mean() for _ in range(1500)]
    )
    np.random.seed(0)  # noqa: NPY002 - what transformers draws from; it rounds the number of spans once a call
    theirs = np.mean([_compute_mask_indices((1, num_frames), probability, length) for _ in range(1500)])
    assert ours == pytest.approx(theirs, abs=0.01)
    # The number of spans is rounded at random, so the mean is that of the exact number.
    assert ours == pytest.approx(1 - (1 - length / num_frames) ** (probability * num_frames / length), abs=0.06)


def test_the_number_of_spans_is_right_on_average_though_it_is_no_whole_number():
    counts = [
        span_mask(1000, probability=0.0125, length=10, rng=np.random.default_rng(seed)).sum() / 10
        for seed in range(2000)
    ]
    assert set(np.floor(counts)) <= {1, 2}
    assert np.mean(counts) == pytest.approx(1.25, abs=0.05)


def test_the_same_key_gives_the_same_mask_and_another_step_another():
    masks = [
        span_mask(200, probability=0.65, length=10, rng=rng(0, "mask", utterance, step))
        for utterance, step in (("a@0", 5), ("a@0", 5), ("a@0", 6), ("b@0", 5))
    ]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()
    assert (masks[0] != masks[3]).any()


def test_keys_that_differ_in_any_part_give_other_numbers():
    keys = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), ("0", "a1"), (0, "a", 1, 0)]
    assert len({rng(*key).integers(2**63) for key in keys}) == len(keys)
    seeds = {torch_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
