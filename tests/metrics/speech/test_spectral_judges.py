"""Judges of spectra give what can be worked out by hand: equal, scaled, noisier."""

import numpy as np
import pytest
import torch
from made_voices import pair, voice, with_noise

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.cepstra import CepstralDistortion, cepstral_distortions
from pipeline.metrics.speech.log_mel import LogMelDistance
from pipeline.metrics.speech.spectra import BLOCK, Frames, magnitudes
from pipeline.metrics.speech.stft_distance import StftDistance

JUDGES = (StftDistance(), LogMelDistance(), CepstralDistortion())


def noise(num_samples=16_000, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("num_samples", [1, 100, 4800, 200_000])
def test_spectra_are_those_of_torch_in_blocks_of_any_number(num_samples):
    frames = Frames(fft_length=512, hop_length=160, window_length=400)
    waveform = noise(num_samples)
    blocks = list(magnitudes(waveform, frames))
    window = torch.hann_window(400, dtype=torch.float64)
    found = torch.stft(
        torch.from_numpy(waveform).double(), 512, 160, 400, window, pad_mode="constant", return_complex=True
    )
    assert len(blocks) == -(-frames.count(num_samples) // BLOCK)
    np.testing.assert_allclose(np.concatenate(blocks), found.abs().T.numpy(), atol=1e-9)


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_equal_waveforms_have_distance_0(judge):
    assert set(judge.score(pair(voice())).values.values()) == {0.0}


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_more_noise_is_further_away(judge):
    clean = voice()
    scores = [judge.score(pair(with_noise(clean, decibels), clean)).values for decibels in (30, 20, 10, 0)]
    for measure in judge.measures:
        values = [score[measure.name] for score in scores]
        assert values == sorted(values)
        assert values[0] > 0
        assert not measure.higher_is_better


def test_half_the_amplitude_is_half_the_spectrum_and_the_logarithm_of_2_away():
    waveform = noise()
    stft = StftDistance().score(pair(waveform / 2, waveform)).values
    assert stft["spectral_convergence"] == pytest.approx(0.5)
    assert stft["log_stft_distance"] == pytest.approx(np.log(2), rel=1e-3)
    assert stft["stft_distance"] == stft["spectral_convergence"] + stft["log_stft_distance"]
    mel = LogMelDistance().score(pair(waveform / 2, waveform)).values
    assert mel["log_mel_distance"] == pytest.approx(np.log(2), rel=1e-6)


def test_amplitude_is_no_cepstral_distortion():
    waveform = noise()
    assert CepstralDistortion().score(pair(waveform / 4, waveform)).values["mcd"] == pytest.approx(0, abs=1e-9)


def test_all_cepstra_give_the_rms_difference_in_decibels_without_its_mean():
    rng = np.random.default_rng(0)
    said, made = rng.standard_normal((5, 20)), rng.standard_normal((5, 20))
    decibels = 10 / np.log(10) * (said - made)
    np.testing.assert_allclose(cepstral_distortions(said, made, order=19), decibels.std(1))
    assert (cepstral_distortions(said, made, order=5) < decibels.std(1)).all()


def test_pauses_of_the_reference_do_not_count_in_cepstral_distortion():
    said = np.concatenate([noise(16_000), np.zeros(16_000, np.float32)])
    made = said.copy()
    made[20_000:] = 1e-4 * noise(12_000, seed=3)
    assert CepstralDistortion().score(pair(made, said)).values["mcd"] == 0
    assert LogMelDistance().score(pair(made, said)).values["log_mel_distance"] > 0


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_a_silent_or_tiny_reference_is_no_distance(judge):
    for reference, reason in ((np.zeros(16_000, np.float32), "silent"), (noise(100), "too_short")):
        with pytest.raises(UnjudgedError) as caught:
            judge.score(pair(noise(len(reference), seed=2), reference))
        assert caught.value.reason == reason
