"""Pieces cropped: samples and frames of one stretch, together, by either clock."""

from dataclasses import replace

import numpy as np
import pytest
from made_tokens import CLOCK, write_corpus_of_tones

from pipeline.batches.cropping import crop_piece
from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cropping")
    write_corpus_of_tones(folder, [0.6, 1.7, 64.0], columns=("layer_00", "layer_03"))
    utterances = Utterances(
        PieceSettings(
            manifest=str(folder / "manifest"),
            clock=CLOCK,
            tokens=str(folder / "tokens"),
            columns=("layer_00", "layer_03"),
        )
    )
    waveforms = Waveforms(CLOCK, utterances.roots, normalize=False, cache_bytes=1 << 24)
    yield [(piece, waveforms(piece)) for piece in utterances.pieces(utterances.units)]
    waveforms.close()


def test_a_crop_for_a_vocoder_is_as_many_hops_as_it_has_frames_each_under_its_tokens(speech):
    """28 frames are 8,960 samples; the tone of a hop's middle is that of its token but where tones meet."""
    hops = CLOCK.of_hops
    rng = np.random.default_rng(0)
    right = []
    for piece, waveform in speech:
        for _ in range(20):
            found = crop_piece(piece, waveform, clock=hops, num_frames=28, rng=rng)
            assert found.waveform.shape == (8_960,)
            assert found.waveform.dtype == np.float32
            assert np.array_equal(found.tokens, piece.tokens[found.first_frame :][:28])
            first = 320 * found.first_frame
            assert np.array_equal(found.waveform, waveform[first : first + 8_960])
            spectrum = np.abs(np.fft.rfft(found.waveform.reshape(28, 320) * np.hanning(320), 4096, axis=1))
            tone = np.rint((spectrum.argmax(axis=1) * 16_000 / 4096 - 250) / 400)
            right += (tone == found.tokens[:, 0]).tolist()
    assert np.mean(right) > 0.9


def test_the_last_hop_of_an_utterance_can_be_cut(speech):
    piece, waveform = speech[0]
    found = crop_piece(piece, waveform, clock=CLOCK.of_hops, num_frames=piece.num_frames, rng=np.random.default_rng(0))
    assert found.first_frame == 0
    assert len(found.waveform) == 320 * piece.num_frames


def test_without_a_waveform_frames_alone_are_cut_at_the_same_places(speech):
    piece, waveform = speech[1]
    for seed in range(5):
        with_samples, alone = (
            crop_piece(piece, given, clock=CLOCK, num_frames=30, rng=np.random.default_rng(seed))
            for given in (waveform, None)
        )
        assert alone.waveform is None
        assert alone.first_frame == with_samples.first_frame
        assert np.array_equal(alone.tokens, with_samples.tokens)
        assert len(with_samples.waveform) == CLOCK.num_samples(30)
        assert alone.features.shape == (30, 0, 0)


@pytest.mark.parametrize("speed", [1.0, 0.8, 1.25])
def test_features_and_tokens_of_a_crop_are_those_of_the_same_frames_at_any_speed(speech, speed):
    piece, waveform = speech[1]
    numbered = np.arange(piece.num_frames, dtype=np.float16)[:, None, None] + np.zeros((1, 2, 3), np.float16)
    piece = replace(piece, features=numbered)
    found = crop_piece(piece, waveform, clock=CLOCK, num_frames=40, rng=np.random.default_rng(4), speed=speed)
    frames = found.features[:, 0, 0].astype(int)
    assert found.features.shape == (40, 2, 3)
    assert np.array_equal(found.tokens, piece.tokens[frames])
    assert frames[0] == found.first_frame > 0
    assert frames[-1] - frames[0] == pytest.approx(39 * speed, abs=1)
    assert len(found.waveform) == CLOCK.num_samples(40)
