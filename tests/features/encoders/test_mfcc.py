import json

import numpy as np
import pytest

from pipeline.errors import EncoderError
from pipeline.features.encoders import mfcc
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import describe, encoder_files
from pipeline.features.passes.extractor import FeatureExtractor
from pipeline.kmeans.codebook import Codebook
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.waveform_tokenizer import save_bundle


def voice(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 150 * np.cumsum(1 + 0.3 * rng.random(num_samples)) / 16_000)
    return (0.2 * tone + 0.01 * rng.standard_normal(num_samples)).astype(np.float32)


def plain_mfcc(waveform):
    """Frame by frame and sum by sum, in numpy."""
    mel = lambda hertz: 1127 * np.log(1 + hertz / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(8_000), 25)
    bins = mel(np.arange(257) * 16_000 / 512)
    rows = []
    for start in range(0, len(waveform) - 399, 320):
        frame = waveform[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.concatenate([[0.03 * frame[0]], frame[1:] - 0.97 * frame[:-1]])
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
        power = np.abs(np.fft.rfft(frame * hann**0.85, 512)) ** 2
        energies = []
        for left, middle, right in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle))
            energies.append(max((np.clip(weight, 0, None) * power).sum(), np.finfo(np.float32).eps))
        logs = np.log(energies)
        row = []
        for order in range(13):
            total = sum(x * np.cos(np.pi * order * (n + 0.5) / 23) for n, x in enumerate(logs))
            row.append(total * np.sqrt((1 if order == 0 else 2) / 23) * (1 + 11 * np.sin(np.pi * order / 22)))
        rows.append(row)
    cepstra = np.array(rows)
    slopes = plain_slopes(cepstra)
    return np.concatenate([cepstra, slopes, plain_slopes(slopes)], axis=1)


def plain_slopes(values):
    around = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return np.array([(2 * (x[4] - x[0]) + x[3] - x[1]) / 10 for x in (around[t : t + 5] for t in range(len(values)))])


@pytest.mark.parametrize("num_samples", [400, 719, 720, 1_360, 16_000])
def test_the_numbers_are_those_of_a_plain_computation(num_samples):
    waveform = voice(num_samples)
    found = SslEncoder.from_pretrained("mfcc", layers=[0]).encode([waveform])[0]
    assert found.shape == (1, (num_samples - 400) // 320 + 1, 39)
    np.testing.assert_allclose(found[0], plain_mfcc(waveform), atol=1e-4)


def test_padding_changes_nothing_at_the_ends():
    encoder = SslEncoder.from_pretrained("mfcc", layers=[0])
    waveforms = [voice(length, length) for length in (16_000, 400, 5_000, 1_100)]
    for together, waveform in zip(encoder.encode(waveforms), waveforms, strict=True):
        np.testing.assert_allclose(together, encoder.encode([waveform])[0], atol=1e-6)


def test_it_is_on_the_clock_of_the_other_encoders_and_needs_no_files():
    info = describe("mfcc", layers=[0])
    assert (info.receptive_field, info.hop_length, info.frame_rate, info.dim) == (400, 320, 50.0, 39)
    assert (info.num_layers, info.can_pad, info.normalize_waveform) == (0, True, False)
    with pytest.raises(EncoderError, match="layers 0 to 0"):
        describe("mfcc", layers=[1])
    with pytest.raises(EncoderError, match="revision"):
        describe("mfcc", revision="main")


def test_another_recipe_has_another_hash(monkeypatch):
    first = describe("mfcc").weights_sha256
    monkeypatch.setitem(mfcc.RECIPE, "lifter", 0)
    assert describe("mfcc").weights_sha256 != first


def test_features_fit_float16_and_bfloat16_is_no_other_encoder():
    waveforms = [voice(8_000), np.zeros(4_000, np.float32), np.ones(4_000, np.float32)]
    wide, narrow = (
        FeatureExtractor(encoder="mfcc", layers=[0], dtype=dtype).extract(waveforms)
        for dtype in ("float32", "bfloat16")
    )
    for one, other in zip(wide, narrow, strict=True):
        assert np.isfinite(one[0]).all()
        np.testing.assert_array_equal(one[0], other[0])


def test_a_tokenizer_of_mfcc_is_saved_and_loaded(tmp_path):
    waveform = voice(16_000)
    encoder = SslEncoder.from_pretrained("mfcc", layers=[0])
    centroids = np.ascontiguousarray(encoder.encode([waveform])[0][0][::5])
    book = Codebook(
        layer=0,
        centroids=centroids,
        counts=np.ones(len(centroids), np.int64),
        inertia=np.ones(1),
        lineage={"encoder_sha256": encoder.weights_sha256},
    )
    settings = {"dtype": "float32", "normalize_waveform": False, "batch_seconds": 16.0}
    settings |= {"window_seconds": 30.0, "window_margin_seconds": 2.0}
    save_bundle(str(tmp_path), encoder_files=lambda: encoder_files("mfcc"), codebooks=[book], settings=settings)
    tokens = Tokenizer.from_pretrained(str(tmp_path)).encode(waveform, 16_000)[0]
    np.testing.assert_array_equal(tokens[::5], np.arange(len(centroids)))
    folder = str(tmp_path / "encoder")
    assert describe(folder).weights_sha256 == encoder.weights_sha256
    assert encoder_files(folder) == encoder_files("mfcc")
    assert json.loads(encoder_files("mfcc")["config.json"])["model_type"] == "mfcc"


def test_without_their_mean_cepstra_do_not_hear_the_gain():
    waveform = voice(16_000)
    encoder = SslEncoder.from_pretrained("mfcc-cmn", layers=[0])
    found = encoder.encode([waveform, waveform[:8_000]])
    for features in found:
        np.testing.assert_allclose(features[0, :, :13].mean(axis=0), 0, atol=1e-4)
    plain = SslEncoder.from_pretrained("mfcc", layers=[0]).encode([waveform])[0][0]
    np.testing.assert_allclose(found[0][0, :, :13], plain[:, :13] - plain[:, :13].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found[0][0, :, 13:], plain[:, 13:], atol=1e-4)
    # A gain moves every log-mel bin by one number.
    np.testing.assert_allclose(encoder.encode([waveform * np.float32(0.5)])[0], found[0], atol=1e-3)


def test_both_kinds_have_a_hash_of_their_own_and_a_copy_knows_its_kind(tmp_path):
    assert describe("mfcc").weights_sha256 != describe("mfcc-cmn").weights_sha256
    for name, data in encoder_files("mfcc-cmn").items():
        (tmp_path / name).write_bytes(data)
    assert describe(str(tmp_path)).weights_sha256 == describe("mfcc-cmn").weights_sha256
