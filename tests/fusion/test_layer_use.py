"""Layer use by hand: means, spreads and entropies over the real frames of each utterance."""

import math

import numpy as np
import pytest
import torch
from made_fusion import fuser, mask, tokens_spec, values

from pipeline.fusion.layer_use import entropy, entropy_share, layer_use

NAN = float("nan")
TWO = np.ones((1, 2), dtype=bool)


def test_the_mean_is_over_real_frames_alone():
    weights = np.array([[[1, 0], [0.5, 0.5], [NAN, 7]], [[0.25, 0.75], [0.75, 0.25], [0, 1]]])
    used = layer_use(weights, np.array([[True, True, False], [True, True, True]]))
    assert used.num_frames.tolist() == [2, 3]
    assert used.mean.tolist() == [[0.75, 0.25], [pytest.approx(1 / 3), pytest.approx(2 / 3)]]
    assert used.spread[0].tolist() == [0.25, 0.25]
    assert used.mean.sum(axis=1) == pytest.approx(1)


def test_a_layer_chosen_anew_in_each_frame_has_a_high_entropy_of_the_mean_and_none_in_its_frames():
    used = layer_use(np.array([[[1.0, 0], [0, 1]]]), TWO)
    assert used.entropy.tolist() == pytest.approx([math.log(2)])
    assert used.entropy_share.tolist() == pytest.approx([1])
    assert used.frame_entropy.tolist() == used.frame_entropy_share.tolist() == [0]


def test_fixed_weights_have_one_entropy_in_the_mean_and_in_the_frames():
    share = np.array([0.7, 0.2, 0.1])
    used = layer_use(np.tile(share, (1, 4, 1)), np.ones((1, 4), dtype=bool))
    by_hand = -sum(p * math.log(p) for p in share)
    assert used.entropy[0] == pytest.approx(by_hand)
    assert used.frame_entropy[0] == pytest.approx(by_hand)
    assert used.entropy_share[0] == pytest.approx(by_hand / math.log(3)) == pytest.approx(entropy_share(share))
    assert used.spread[0] == pytest.approx([0, 0, 0], abs=1e-12)
    assert entropy(share) == pytest.approx(by_hand)


def test_the_share_is_of_the_layers_that_were_present():
    weights = np.array([[[0.5, 0.5, 0], [0.5, 0.5, 0]]])
    assert layer_use(weights, TWO).entropy_share[0] == pytest.approx(math.log(2) / math.log(3))
    assert layer_use(weights, TWO, np.array([True, True, False])).entropy_share[0] == pytest.approx(1)
    assert layer_use(weights, TWO, np.array([[True, True, False]])).frame_entropy_share[0] == pytest.approx(1)


def test_one_layer_has_no_entropy():
    used = layer_use(np.ones((1, 2, 1)), TWO)
    assert used.entropy.tolist() == used.entropy_share.tolist() == [0]
    assert entropy_share(np.ones(1)) == 0


def test_an_utterance_without_frames_and_weights_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"utterance\(s\) \[1\] have no frame"):
        layer_use(np.ones((2, 1, 1)), np.array([[True], [False]]))
    for wrong in (0.8, NAN):
        with pytest.raises(ValueError, match="the weights of a frame add up to 1, these are off by"):
            layer_use(np.full((1, 2, 1), wrong), TWO)


@torch.no_grad()
def test_the_weights_of_a_fuser_are_measured_as_they_come(tmp_path):
    made = fuser(tokens_spec(tmp_path))
    weights = made(values(made.spec), mask()).weights
    used = layer_use(weights.numpy(), mask().numpy())
    by_hand = torch.stack([weights[0, :6].double().mean(0), weights[1, :4].double().mean(0)])
    assert np.abs(used.mean - by_hand.numpy()).max() < 1e-12
    assert (used.frame_entropy <= used.entropy + 1e-12).all()
    assert ((used.entropy_share > 0) & (used.entropy_share <= 1)).all()
