from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipeline.features.extractor import FeatureExtractor, Rejected, UtteranceFeatures
from pipeline.schema import Reason

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

SETTINGS = {"dtype": "float32", "device": "cpu", "normalize_waveform": None, "threads": 1}


def extractor(folder, layers=(1, 3), batch_seconds=10.0):
    return FeatureExtractor(encoder=folder, layers=layers, batch_seconds=batch_seconds, **SETTINGS)


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def as_int16(waveform):
    return np.round(waveform * 32767).astype(np.int16)


@pytest.mark.parametrize("stem", ["group", "layer"])
def test_features_do_not_depend_on_batch_neighbours_or_order(small_encoder, stem):
    machine = extractor(small_encoder(stem=stem, stable=stem == "layer"))
    lengths = [48_000, 16_000, 48_000, 9_999, 30_000, 16_000]
    waveforms = {f"u{n}": noise(length, n) for n, length in enumerate(lengths)}
    forward = machine.extract(list(waveforms), list(waveforms.values()))
    backward = machine.extract(list(waveforms)[::-1], list(waveforms.values())[::-1])
    assert [result.utterance_id for result in forward] == list(waveforms)
    for one, other in zip(forward, backward[::-1], strict=True):
        alone = machine.extract([one.utterance_id], [waveforms[one.utterance_id]])[0]
        for layer in (1, 3):
            scale = np.abs(alone.features[layer].astype(np.float32)).max()
            # One step of float16 at the largest value.
            np.testing.assert_allclose(one.features[layer], alone.features[layer], atol=scale * 2**-10, rtol=0)
            np.testing.assert_allclose(other.features[layer], alone.features[layer], atol=scale * 2**-10, rtol=0)


def test_the_same_call_gives_the_same_bits(small_encoder):
    machine = extractor(small_encoder(kind="wavlm"))
    waveforms = [noise(length, length) for length in (20_000, 31_000, 8_000)]
    first, second = (machine.extract(["a", "b", "c"], waveforms) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for layer in (1, 3):
            np.testing.assert_array_equal(one.features[layer], other.features[layer])


def test_features_are_float16_on_the_encoders_clock_for_every_layer(small_encoder):
    machine = extractor(small_encoder())
    found = machine.extract(["a"], [noise(16_000)])[0]
    assert isinstance(found, UtteranceFeatures)
    assert {layer: (x.dtype.name, x.shape) for layer, x in found.features.items()} == {
        layer: ("float16", (49, 48)) for layer in (1, 3)
    }


def test_int16_samples_are_their_value_over_32768(small_encoder):
    machine = extractor(small_encoder())
    samples = as_int16(noise(9_000))
    before = samples.copy()
    floats = samples.astype(np.float32) / 32768
    whole, scaled = machine.extract(["a"], [samples])[0], machine.extract(["a"], [floats])[0]
    np.testing.assert_array_equal(whole.features[3], scaled.features[3])
    np.testing.assert_array_equal(samples, before)


def test_unusable_utterances_are_named_and_the_others_kept_in_order(small_encoder):
    machine = extractor(small_encoder())
    broken = noise(5_000)
    broken[77] = np.nan
    results = machine.extract(
        ["ok", "short", "nan", "empty", "one_frame"],
        [noise(5_000), noise(399), broken, np.zeros(0, np.int16), noise(400)],
    )
    assert [result.utterance_id for result in results] == ["ok", "short", "nan", "empty", "one_frame"]
    assert [getattr(result, "reason", None) for result in results] == [
        None,
        Reason.TOO_SHORT,
        Reason.NOT_FINITE,
        Reason.TOO_SHORT,
        None,
    ]
    assert "399 samples" in results[1].detail
    assert results[4].features[1].shape == (1, 48)
    assert machine.extract([], []) == []


@pytest.mark.parametrize(("value", "reason"), [(1e6, Reason.FEATURE_OVERFLOW), (np.inf, Reason.NOT_FINITE)])
def test_a_feature_that_float16_cannot_hold_rejects_the_utterance_naming_the_layer(small_encoder, value, reason):
    folder = Path(small_encoder())
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.2.feed_forward.output_dense.bias"][5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    result = extractor(str(folder)).extract(["loud"], [noise(2_000)])[0]
    assert isinstance(result, Rejected)
    assert (result.utterance_id, result.reason) == ("loud", reason)
    assert "layer 3" in result.detail
    assert isinstance(extractor(str(folder), layers=[1, 2]).extract(["loud"], [noise(2_000)])[0], UtteranceFeatures)


def test_an_utterance_longer_than_the_batch_budget_is_encoded_alone(small_encoder):
    machine = extractor(small_encoder(), batch_seconds=0.5)
    results = machine.extract(["long", "short"], [noise(20_000), noise(4_000)])
    assert [len(result.features[1]) for result in results] == [62, 12]


def test_one_waveform_for_each_id_is_demanded(small_encoder):
    with pytest.raises(ValueError, match="zip"):
        extractor(small_encoder()).extract(["a", "b"], [noise(800)])


def test_real_speech_gives_the_same_features_padded_and_alone(small_encoder, speech_root):
    import soundfile

    paths = sorted((speech_root / "LibriSpeech").rglob("*.flac"))[:6]
    waveforms = [soundfile.read(path, dtype="int16")[0][:80_000] for path in paths]
    machine = extractor(small_encoder(kind="wavlm"), batch_seconds=60)
    together = machine.extract([path.stem for path in paths], waveforms)
    for path, waveform, result in zip(paths, waveforms, together, strict=True):
        alone = machine.extract([path.stem], [waveform])[0]
        differing = (alone.features[3] != result.features[3]).mean()
        # Only values that lie on a rounding border of float16 may differ.
        assert differing < 0.01


def test_two_threads_with_one_encoder_get_the_features_of_one(small_encoder):
    machine = extractor(small_encoder())
    waveforms = [noise(8_000 + 3_000 * n, n) for n in range(5)]
    ids = [str(n) for n in range(5)]
    expected = machine.extract(ids, waveforms)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: machine.extract(ids, waveforms), range(6)))
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            np.testing.assert_array_equal(one.features[3], other.features[3])
