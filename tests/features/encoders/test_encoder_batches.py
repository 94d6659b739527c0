"""The two halves of a batch: prepared on the host, encoded and rounded on the device."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipeline.audio.normalization import normalized
from pipeline.features.encoders.encoder import SslEncoder

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return SslEncoder.from_pretrained(small_encoder(kind="wavlm"), layers=[0, 2, 4])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_on_the_device_gives_the_bits_of_rounding_on_the_host(small_encoder, dtype):
    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[0, 2, 4], dtype=dtype)
    waveforms = [noise(length, length) for length in (9_000, 400, 16_000)]
    wide = encoder.encode(waveforms)
    encoded = encoder.encode_half(encoder.prepare(waveforms))
    for row, (features, half) in enumerate(zip(wide, encoded.features, strict=True)):
        assert (half.dtype, half.shape) == (np.float16, features.shape)
        np.testing.assert_array_equal(half, features.astype(np.float16))
        np.testing.assert_array_equal(encoded.peaks[row], np.abs(features).max(axis=(1, 2)))


def test_peaks_tell_a_large_value_from_one_that_is_no_number(small_encoder):
    for value in (1e6, np.inf, np.nan):
        folder = Path(small_encoder())
        tensors = load_file(folder / "model.safetensors")
        tensors["encoder.layers.2.feed_forward.output_dense.bias"][5] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        encoder = SslEncoder.from_pretrained(str(folder), layers=[1, 3])
        peaks = encoder.encode_half(encoder.prepare([noise(2_000), noise(900)])).peaks
        assert (peaks[:, 0] < 100).all()
        np.testing.assert_allclose(peaks[:, 1], [value, value], rtol=1e-4)


def test_what_lies_past_the_end_of_an_utterance_is_not_in_its_peak(encoder):
    quiet, loud = noise(4_000), 30 * noise(16_000, 1)
    together = encoder.encode_half(encoder.prepare([quiet, loud], normalized=True))
    alone = encoder.encode_half(encoder.prepare([quiet], normalized=True))
    np.testing.assert_allclose(together.peaks[0], alone.peaks[0], rtol=1e-4)


def test_waveforms_that_are_normalised_already_are_taken_as_they_are(encoder):
    waveform = 3 * noise(5_000) + 0.2
    once, twice = (
        encoder.prepare([normalized(waveform)], normalized=True).waveform_BS,
        encoder.prepare([waveform]).waveform_BS,
    )
    np.testing.assert_array_equal(once.numpy(), twice.numpy())
    np.testing.assert_array_equal(encoder.prepare([waveform], normalized=True).waveform_BS[0].numpy(), waveform)


def test_batches_may_be_prepared_while_others_are_encoded(encoder):
    batches = [[noise(6_000 + 1_000 * n, n), noise(3_000, n)] for n in range(6)]
    expected = [encoder.encode_half(encoder.prepare(batch)) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        found = [encoder.encode_half(prepared) for prepared in pool.map(encoder.prepare, batches)]
    for one, other in zip(found, expected, strict=True):
        for features, truth in zip(one.features, other.features, strict=True):
            np.testing.assert_array_equal(features, truth)


def test_an_empty_batch_is_refused(encoder):
    with pytest.raises(ValueError, match="at least one"):
        encoder.prepare([])
