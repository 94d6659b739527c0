"""Our streaming gives Silero's own probabilities, however a recording is cut into blocks."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from made_audio import noise

from pipeline.audio.vad import FRAME, SpeechDetector, weights_path
from pipeline.errors import SettingsError

needs_vad = pytest.mark.skipif(find_spec("silero_vad") is None, reason="the vad extra is not installed")


@pytest.fixture(scope="module")
def waveform():
    rng = np.random.default_rng(0)
    time = np.arange(40_000) / 16_000
    # A voice of sorts: harmonics of a gliding pitch, in syllables, in noise.
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(3 * time)) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.clip(np.sin(8 * time), 0, None)
    return (0.1 * voice + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


@needs_vad
def test_probabilities_are_those_of_the_network_run_frame_by_frame(waveform):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(weights_path().with_name("silero_vad.onnx")))
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(waveform), FRAME):
        frame = np.zeros(FRAME, np.float32)
        frame[: len(waveform) - start] = waveform[start : start + FRAME]
        inputs = {"input": np.concatenate([context, frame])[None], "state": state, "sr": np.array(16_000)}
        value, state = session.run(None, inputs)
        context = frame[-64:]
        expected.append(value.item())
    found = SpeechDetector().probabilities([waveform])
    assert len(found) == -(-len(waveform) // FRAME)
    assert max(expected) - min(expected) > 0.3
    np.testing.assert_allclose(found, expected, atol=2e-5)


@needs_vad
@pytest.mark.parametrize("block", [100, FRAME, 7_777, 160_000])
def test_probabilities_do_not_depend_on_how_the_waveform_is_cut(waveform, block):
    detector = SpeechDetector()
    whole = detector.probabilities([waveform])
    cut = detector.probabilities(waveform[start : start + block] for start in range(0, len(waveform), block))
    assert np.array_equal(cut, whole)


@needs_vad
def test_one_recording_does_not_hear_the_one_before(waveform):
    detector = SpeechDetector()
    first = detector.probabilities([waveform])
    detector.probabilities([noise(16_000).astype(np.float32) / 32768])
    assert np.array_equal(detector.probabilities([waveform]), first)
    assert detector.probabilities([]).shape == (0,)


@pytest.mark.parametrize("package", ["silero_vad", "onnxruntime"])
def test_without_the_extra_the_error_names_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=r"strata-tokens\[vad\]"):
        weights_path()
