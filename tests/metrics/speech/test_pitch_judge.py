"""Pitch judges: a voice moved by a known interval has that error, and voicing is counted frame by frame."""

import numpy as np
import pytest
from made_voices import pair, voice, with_noise

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.pitch import Pitch, PitchTracker, compare_pitch


@pytest.fixture(scope="module")
def judge():
    return Pitch()


def test_a_voice_has_no_pitch_error_against_itself(judge):
    found = judge.score(pair(voice())).values
    assert found == pytest.approx(
        {"f0_rmse": 0, "f0_rmse_cents": 0, "f0_gross_error": 0, "voicing_error": 0, "f0_correlation": 1}
    )


@pytest.mark.parametrize("semitones", [-3, 1, 2])
def test_a_voice_moved_by_semitones_is_off_by_100_cents_each(judge, semitones):
    moved = voice(hertz=140 * 2 ** (semitones / 12))
    found = judge.score(pair(moved, voice())).values
    assert found["f0_rmse_cents"] == pytest.approx(100 * abs(semitones), abs=4)
    assert found["f0_rmse"] == pytest.approx(140 * abs(2 ** (semitones / 12) - 1), rel=0.05)
    assert found["f0_correlation"] > 0.99
    assert found["f0_gross_error"] == 0


def test_an_octave_is_a_gross_error_everywhere(judge):
    assert judge.score(pair(voice(hertz=280), voice())).values["f0_gross_error"] == 1


def test_the_tracker_finds_the_pitch_that_was_made_at_any_level():
    track = PitchTracker()
    for gain in (1, 0.05):
        found = track(gain * voice(hertz=200, melody=0.0))
        assert np.median(found[found > 0]) == pytest.approx(200, rel=0.005)


def test_noise_disturbs_voicing(judge):
    clean = voice()
    found = [judge.score(pair(with_noise(clean, decibels), clean)).values["voicing_error"] for decibels in (60, 10)]
    assert found[0] < found[1]


def test_errors_are_those_counted_by_hand():
    said = np.array([100.0] * 10 + [200.0] * 10 + [0.0] * 5)
    made = np.array([110.0] * 10 + [300.0] * 9 + [0.0, 50.0, 0.0, 0.0, 0.0, 0.0])
    found = compare_pitch(said, made).values
    assert found["f0_rmse"] == pytest.approx(np.sqrt((10 * 10**2 + 9 * 100**2) / 19))
    assert found["f0_gross_error"] == pytest.approx(9 / 19)
    assert found["voicing_error"] == pytest.approx(2 / 25)
    assert found["f0_correlation"] == pytest.approx(1)


def test_a_monotone_has_no_correlation_and_unvoiced_speech_no_pitch(judge):
    flat = np.full(20, 100.0)
    monotone = compare_pitch(np.linspace(90, 110, 20), flat)
    assert monotone.absent == {"f0_correlation": "constant_pitch"}
    assert "f0_correlation" not in monotone.values
    lost = compare_pitch(flat, np.zeros(20))
    assert lost.values == {"voicing_error": 1.0}
    assert set(lost.absent) == {"f0_rmse", "f0_rmse_cents", "f0_correlation", "f0_gross_error"}
    with pytest.raises(UnjudgedError, match="not_voiced"):
        compare_pitch(np.zeros(20), flat)
    silence = np.zeros(16_000, np.float32)
    assert judge.score(pair(silence, voice(1.0))).values["voicing_error"] > 0.3
