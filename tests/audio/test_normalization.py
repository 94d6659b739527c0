"""Normalised waveforms: the same whether whole, by stretches or in training, and exact where float32 means are not."""

import numpy as np
import pytest

from pipeline.audio.normalization import normalized, scaled


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.9])
def test_a_normalised_waveform_has_mean_zero_and_variance_one(offset):
    waveform = (offset + 0.05 * np.random.default_rng(0).standard_normal(960_000)).astype(np.float32)
    found = normalized(waveform)
    assert found.dtype == np.float32
    wide = found.astype(np.float64)
    assert abs(wide.mean()) < 1e-7
    assert wide.var() == pytest.approx(1, abs=1e-4)


def test_silence_stays_finite_and_the_waveform_is_not_changed():
    silence = np.full(800, 0.25, np.float32)
    assert not normalized(silence).any()
    waveform = np.linspace(-1, 1, 800, dtype=np.float32)
    kept = waveform.copy()
    normalized(waveform)
    assert np.array_equal(waveform, kept)


def test_stretches_scaled_by_the_whole_are_stretches_of_the_normalised_whole():
    waveform = np.random.default_rng(1).standard_normal(40_000).astype(np.float32)
    wide = waveform.astype(np.float64)
    mean, variance = float(wide.mean()), float(wide.var())
    parts = [scaled(waveform[first : first + 7_000], mean=mean, variance=variance) for first in range(0, 40_000, 7_000)]
    assert np.array_equal(np.concatenate(parts), normalized(waveform))


def test_padding_after_it_changes_nothing_of_the_waveform(small_encoder):
    """What an encoder gets of an utterance is its normalised waveform, alone and beside a longer one."""
    from pipeline.features.encoders.encoder import SslEncoder

    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[1], normalize_waveform=True)
    rng = np.random.default_rng(2)
    short, long = (0.1 + 0.1 * rng.standard_normal(size).astype(np.float32) for size in (5_000, 9_000))
    prepared = encoder.prepare([short, long]).waveform_BS.numpy()
    assert np.array_equal(prepared[0, :5_000], normalized(short))
    assert np.array_equal(prepared[1], normalized(long))
    assert not prepared[0, 5_000:].any()
