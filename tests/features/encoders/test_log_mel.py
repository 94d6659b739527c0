import numpy as np
import pytest
import torch
import transformers

from pipeline.features.encoders.info import describe
from pipeline.features.encoders.log_mel import StackedLogMel

EXTRACTOR = transformers.SeamlessM4TFeatureExtractor()


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def stacked(waveforms):
    padded_BS = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for row, waveform in enumerate(waveforms):
        padded_BS[row, : len(waveform)] = torch.from_numpy(waveform)
    return StackedLogMel(num_mel_bins=80, stride=2, sample_rate=16_000)(padded_BS, [len(x) for x in waveforms])


@pytest.mark.parametrize("num_samples", [560, 719, 720, 879, 880, 16_000, 47_999])
def test_spectra_are_those_of_the_published_extractor(num_samples):
    waveform = noise(num_samples) + 0.01
    truth = EXTRACTOR(waveform, sampling_rate=16_000, return_tensors="np")
    valid = truth["attention_mask"][0].astype(bool)
    found_BTD, valid_BT = stacked([waveform])
    assert valid_BT.all()
    np.testing.assert_allclose(found_BTD[0].numpy(), truth["input_features"][0][valid], atol=2e-4)


def test_the_frame_count_is_that_of_the_published_extractor(small_encoder):
    info = describe(small_encoder(kind="wav2vec2-bert"))
    assert (info.receptive_field, info.hop_length, info.frame_rate) == (560, 320, 50.0)
    for num_samples in (*range(560, 1_300, 20), 719, 879, 880, 1_039, 1_040):
        mask = EXTRACTOR(noise(num_samples), sampling_rate=16_000, return_tensors="np")["attention_mask"]
        assert info.clock.num_frames(num_samples) == mask.sum(), num_samples
    assert info.clock.num_frames(559) == 0


def test_spectra_of_a_padded_batch_are_those_of_each_alone():
    waveforms = [noise(9_000), noise(600, 1), noise(5_281, 2)]
    together_BTD, valid_BT = stacked(waveforms)
    for row, waveform in enumerate(waveforms):
        alone = stacked([waveform])[0][0]
        assert valid_BT[row].sum() == len(alone)
        np.testing.assert_allclose(together_BTD[row, : len(alone)].numpy(), alone.numpy(), atol=1e-6)
        assert not together_BTD[row, len(alone) :].any()


def test_silence_gives_zeros():
    found_BTD, _ = stacked([np.zeros(4_000, np.float32)])
    assert found_BTD.abs().max() < 1e-6
