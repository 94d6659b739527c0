"""Griffin-Lim gives back what the mel spectrum tells, the same each time, as long as the original."""

import numpy as np
import pytest
from made_voices import pair, voice

from pipeline.metrics.speech.griffin_lim import from_mel, griffin_lim
from pipeline.metrics.speech.intelligibility import Intelligibility
from pipeline.metrics.speech.log_mel import LogMelDistance
from pipeline.metrics.speech.spectra import MEL_FRAMES, magnitudes, mel_filters


def test_more_iterations_come_nearer_and_level_and_length_stay():
    clean = voice()[:22_222]
    made = [griffin_lim(clean, iterations=count) for count in (1, 8, 32)]
    assert {one.shape for one in made} == {clean.shape}
    assert made[0].dtype == np.float32
    distances = [LogMelDistance().score(pair(one, clean)).values["log_mel_distance"] for one in made]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.35
    assert Intelligibility().score(pair(made[-1], clean)).values["stoi"] > 0.85
    level = np.sqrt(np.mean(made[-1] ** 2) / np.mean(clean**2))
    assert level == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_waveform_and_another_seed_another():
    clean = voice(0.5)
    one, again, other = (griffin_lim(clean, iterations=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_inverted_mel_bins_have_the_mel_bins_they_came_from():
    mel_TM = np.concatenate(list(magnitudes(voice(0.5), MEL_FRAMES))) @ mel_filters()
    found_TF = from_mel(mel_TM)
    assert (found_TF >= 0).all()
    apart = np.abs(found_TF @ mel_filters() - mel_TM).sum() / mel_TM.sum()
    assert apart < 0.05


@pytest.mark.parametrize("num_samples", [1, 255, 1000])
def test_short_and_silent_waveforms_are_made_too(num_samples):
    silent = griffin_lim(np.zeros(num_samples, np.float32), iterations=2)
    assert silent.shape == (num_samples,)
    assert np.abs(silent).max() < 1e-3
    with pytest.raises(ValueError, match="need samples"):
        griffin_lim(np.zeros(0, np.float32))
