"""Frames are counted in one place, as the convolutions of a real network count them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.clock import Clock

CLOCK = Clock(sample_rate=16_000, hop_length=320, receptive_field=400)


@given(num_samples=st.integers(400, 40_000))
def test_a_clock_counts_the_frames_of_the_samples_that_it_asks_for(num_samples):
    frames = CLOCK.num_frames(num_samples)
    assert CLOCK.num_frames(CLOCK.num_samples(frames)) == frames
    assert CLOCK.num_samples(frames) <= num_samples < CLOCK.num_samples(frames + 1)


def test_a_waveform_shorter_than_one_frame_has_none():
    lengths = [0, 1, 399, 400, 719, 720]
    assert [CLOCK.num_frames(length) for length in lengths] == [0, 0, 0, 1, 1, 2]
    counts = CLOCK.frame_counts(np.array(lengths))
    assert counts.dtype == np.int64
    assert counts.tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("kernels", "strides"),
    [((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)), ((400, 2), (160, 2)), ((7, 5), (3, 4)), ((1,), (1,))],
)
def test_the_clock_of_convolutions_counts_what_torch_gives(kernels, strides):
    clock = Clock.of_convolutions(8_000, kernels, strides)
    stack = torch.nn.Sequential(
        *(torch.nn.Conv1d(1, 1, kernel, stride) for kernel, stride in zip(kernels, strides, strict=True))
    )
    for extra in (0, 1, clock.hop_length - 1, clock.hop_length, 5 * clock.hop_length + 3):
        num_samples = clock.receptive_field + extra
        with torch.no_grad():
            assert stack(torch.zeros(1, 1, num_samples)).shape[-1] == clock.num_frames(num_samples)
    assert clock.frame_rate == 8_000 / clock.hop_length
    if clock.receptive_field > 1:
        with pytest.raises(RuntimeError):
            stack(torch.zeros(1, 1, clock.receptive_field - 1))


def test_frames_of_one_hop_each_are_laid_end_to_end_and_fit_into_what_the_encoder_heard():
    hops = CLOCK.of_hops
    assert (hops.sample_rate, hops.hop_length, hops.frame_rate) == (16_000, 320, 50.0)
    for num_frames in (1, 28, 703):
        assert hops.num_samples(num_frames) == 320 * num_frames <= CLOCK.num_samples(num_frames)
