import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipeline.features.passes.extractor import EncodeLog, FeatureExtractor, FeaturePiece, Rejected
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
    waveforms = list(waveforms.values())
    forward, backward = machine.extract(waveforms), machine.extract(waveforms[::-1])
    for waveform, one, other in zip(waveforms, forward, backward[::-1], strict=True):
        alone = machine.alone().extract([waveform])[0]
        for layer in (1, 3):
            scale = np.abs(alone[layer].astype(np.float32)).max()
            # One step of float16 at the largest value.
            np.testing.assert_allclose(one[layer], alone[layer], atol=scale * 2**-10, rtol=0)
            np.testing.assert_allclose(other[layer], alone[layer], atol=scale * 2**-10, rtol=0)


def test_the_same_call_gives_the_same_bits(small_encoder):
    machine = extractor(small_encoder(kind="wavlm"))
    waveforms = [noise(length, length) for length in (20_000, 31_000, 8_000)]
    first, second = (machine.extract(waveforms) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for layer in (1, 3):
            np.testing.assert_array_equal(one[layer], other[layer])


def test_features_are_float16_on_the_encoders_clock_for_every_layer(small_encoder):
    machine = extractor(small_encoder())
    found = machine.extract([noise(16_000)])[0]
    assert {layer: (x.dtype.name, x.shape) for layer, x in found.items()} == {
        layer: ("float16", (49, 48)) for layer in (1, 3)
    }


def test_int16_samples_are_their_value_over_32768(small_encoder):
    machine = extractor(small_encoder())
    samples = as_int16(noise(9_000))
    before = samples.copy()
    floats = samples.astype(np.float32) / 32768
    whole, scaled = machine.extract([samples])[0], machine.extract([floats])[0]
    np.testing.assert_array_equal(whole[3], scaled[3])
    np.testing.assert_array_equal(samples, before)


def test_unusable_utterances_are_named_and_the_others_kept_in_order(small_encoder):
    machine = extractor(small_encoder())
    broken = noise(5_000)
    broken[77] = np.nan
    results = machine.extract(
        [noise(5_000), noise(399), broken, np.zeros(0, np.int16), noise(400)],
    )
    assert [result.row for result in results if isinstance(result, Rejected)] == [1, 2, 3]
    assert [getattr(result, "reason", None) for result in results] == [
        None,
        Reason.TOO_SHORT,
        Reason.NOT_FINITE,
        Reason.TOO_SHORT,
        None,
    ]
    assert "399 samples" in results[1].detail
    assert results[4][1].shape == (1, 48)
    assert machine.extract([]) == []


@pytest.mark.parametrize(("value", "reason"), [(1e6, Reason.FEATURE_OVERFLOW), (np.inf, Reason.NOT_FINITE)])
def test_a_feature_that_float16_cannot_hold_rejects_the_utterance_naming_the_layer(small_encoder, value, reason):
    folder = Path(small_encoder())
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.2.feed_forward.output_dense.bias"][5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    result = extractor(str(folder)).extract([noise(2_000)])[0]
    assert isinstance(result, Rejected)
    assert (result.row, result.reason) == (0, reason)
    assert "layer 3" in result.detail
    assert isinstance(extractor(str(folder), layers=[1, 2]).extract([noise(2_000)])[0], dict)


def test_an_utterance_longer_than_the_batch_budget_is_encoded_alone(small_encoder):
    machine = extractor(small_encoder(), batch_seconds=0.5)
    results = machine.extract([noise(20_000), noise(4_000)])
    assert [len(result[1]) for result in results] == [62, 12]


def test_real_speech_gives_the_same_features_padded_and_alone(small_encoder, speech_root):
    import soundfile

    paths = sorted((speech_root / "LibriSpeech").rglob("*.flac"))[:6]
    waveforms = [soundfile.read(path, dtype="int16")[0][:80_000] for path in paths]
    machine = extractor(small_encoder(kind="wavlm"), batch_seconds=60)
    together = machine.extract(waveforms)
    for waveform, result in zip(waveforms, together, strict=True):
        alone = machine.extract([waveform])[0]
        differing = (alone[3] != result[3]).mean()
        # Only values that lie on a rounding border of float16 may differ.
        assert differing < 0.01


def test_two_threads_with_one_encoder_get_the_features_of_one(small_encoder):
    machine = extractor(small_encoder())
    waveforms = [noise(8_000 + 3_000 * n, n) for n in range(5)]
    expected = machine.extract(waveforms)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: machine.extract(waveforms), range(6)))
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            np.testing.assert_array_equal(one[3], other[3])


def test_a_batch_that_does_not_fit_is_halved_in_its_order_and_the_log_says_so(small_encoder, monkeypatch):
    machine = extractor(small_encoder(stem="layer", stable=True))
    waveforms = [noise(4_000 + 400 * n, n) for n in range(5)]
    expected = machine.extract(waveforms)
    faults = [{"point": "forward", "match": f"batch of {size}", "action": "memory"} for size in (5, 3)]
    monkeypatch.setenv("STRATA_FAULTS", json.dumps(faults))
    log = EncodeLog()
    pieces = list(machine.stream(waveforms, log))
    assert log.splits == [[0, 1, 2, 3, 4], [0, 1, 2]]
    assert [piece.row for piece in pieces] == [0, 1, 2, 3, 4]
    for piece, whole in zip(pieces, expected, strict=True):
        scale = np.abs(whole[3].astype(np.float32)).max()
        np.testing.assert_allclose(piece.features[3], whole[3], atol=scale * 2**-10, rtol=0)


def test_an_utterance_that_does_not_fit_alone_is_rejected_and_the_others_are_kept(small_encoder, monkeypatch):
    machine = extractor(small_encoder(), batch_seconds=0.01)
    marker = json.dumps([{"point": "forward", "action": "memory", "once": str(Path(small_encoder()) / "once")}])
    monkeypatch.setenv("STRATA_FAULTS", marker)
    short, long = machine.extract([noise(4_000), noise(9_000)])
    assert (short.reason, short.row) == (Reason.ENCODER_MEMORY, 0)
    assert long[3].shape == (27, 48)


def test_another_failure_of_the_encoder_is_not_taken_for_a_lack_of_memory(small_encoder, monkeypatch):
    monkeypatch.setenv("STRATA_FAULTS", json.dumps([{"point": "forward", "action": "error"}]))
    with pytest.raises(OSError, match="fault injected"):
        extractor(small_encoder()).extract([noise(4_000)])


def test_the_next_batch_is_encoded_while_a_piece_is_in_use(small_encoder):
    machine = extractor(small_encoder(), batch_seconds=0.01)
    encoded = []

    class CountingLog(EncodeLog):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "busy" and value:
                encoded.append(value)

    stream = machine.stream([noise(4_000), noise(5_000), noise(6_000)], CountingLog())
    assert isinstance(next(stream), FeaturePiece)
    deadline = time.monotonic() + 20
    while len(encoded) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    # The second batch, before the second piece was asked for.
    assert len(encoded) >= 2
    assert [piece.row for piece in stream] == [1, 2]
    assert len(encoded) == 3


def test_an_abandoned_stream_lets_the_next_one_begin(small_encoder):
    machine = extractor(small_encoder(), batch_seconds=0.01)
    stream = machine.stream([noise(4_000), noise(5_000), noise(6_000)])
    next(stream)
    stream.close()
    assert [found[3].shape for found in machine.extract([noise(4_000)])] == [(12, 48)]


def test_the_log_counts_speech_and_padding(small_encoder):
    machine = extractor(small_encoder(stem="layer", stable=True))
    log = EncodeLog()
    machine.extract([noise(4_000), noise(6_000), noise(100)], log)
    assert (log.samples, log.padding) == (10_000, 2_000)
    assert 0 < log.busy <= log.ended - log.began
