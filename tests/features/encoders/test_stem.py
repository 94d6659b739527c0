import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.encoders.stem import PatchSums
from pipeline.features.passes.extractor import FeatureExtractor


def moments(waveform, size, kernel=10, stride=5):
    sums = PatchSums(kernel, stride)
    for start in range(0, len(waveform), size):
        sums.add(waveform[start : start + size])
    return sums.moments()


@given(st.integers(10, 3_000), st.integers(1, 500), st.sampled_from([(10, 5), (3, 2), (4, 4)]))
@settings(max_examples=60, deadline=None)
def test_channels_have_mean_and_variance_of_the_convolution_whatever_the_blocks(num_samples, size, shape):
    kernel, stride = shape
    rng = np.random.default_rng(num_samples)
    waveform, kernels = 0.3 + rng.standard_normal(num_samples), rng.standard_normal((6, kernel))
    mean, variance = moments(waveform, size, kernel, stride).channels(kernels)
    given_ = torch.nn.functional.conv1d(
        torch.from_numpy(waveform)[None, None], torch.from_numpy(kernels)[:, None], stride=stride
    )[0].numpy()
    np.testing.assert_allclose(mean, given_.mean(axis=1), atol=1e-10)
    np.testing.assert_allclose(variance, given_.var(axis=1), atol=1e-9)


def test_moments_follow_a_waveform_that_is_moved_and_scaled():
    waveform = np.random.default_rng(0).standard_normal(5_000)
    found, expected = moments(waveform, 700).moved(0.25, 3.0), moments((waveform - 0.25) * 3.0, 700)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stem", ["group", "layer"])
def test_what_enters_the_blocks_is_that_of_the_whole_recording(small_encoder, stem, bias, normalize):
    # Layer 0 hears 16 frames to each side; half of the recording is loud, so a norm over a window would show.
    rng = np.random.default_rng(1)
    waveform = (rng.uniform(-1, 1, 12 * 16_000) * np.repeat([0.02, 0.7], 6 * 16_000)).astype(np.float32)
    machine = FeatureExtractor(
        encoder=small_encoder(stem=stem, stable=False, conv_bias=bias),
        layers=[0],
        normalize_waveform=normalize,
        window_seconds=3.0,
        window_margin_seconds=0.5,
    )
    found, whole = (one.extract([waveform])[0][0].astype(np.float32) for one in (machine, machine.alone()))
    np.testing.assert_allclose(found, whole, atol=3e-3)
