import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.clock import Clock
from pipeline.audio.normalization import normalized
from pipeline.errors import SettingsError
from pipeline.features.passes.extractor import FeatureExtractor, FeaturePiece, Rejected, join_pieces
from pipeline.features.passes.windows import Windowing, cut, measure
from pipeline.schema import Reason


def blocks_of(waveform, size):
    return lambda: iter([waveform[start : start + size] for start in range(0, len(waveform), size)])


@given(
    st.integers(400, 60_000),
    st.integers(1, 60),
    st.integers(0, 29),
    st.sampled_from([(320, 400), (160, 400), (4, 10)]).map(
        lambda pair: Clock(sample_rate=16_000, hop_length=pair[0], receptive_field=pair[1])
    ),
)
@settings(max_examples=300, deadline=None)
def test_every_frame_is_kept_once_with_its_margin(num_samples, window, margin, clock):
    if window <= 2 * margin:
        window = 2 * margin + 1
    hop, field = clock.hop_length, clock.receptive_field
    windowing = Windowing(window_frames=window, margin_frames=margin, clock=clock)
    total = (num_samples - field) // hop + 1
    plan = list(windowing.plan(num_samples))
    kept = 0
    for found in plan:
        frames = (found.num_samples - field) // hop + 1
        assert found.start_sample % hop == 0
        assert found.start_sample + found.num_samples <= num_samples
        assert found.first_frame == kept == found.start_sample // hop + found.skip_frames
        kept += found.keep_frames
        assert found.skip_frames >= margin or found.start_sample == 0
        left = frames - found.skip_frames - found.keep_frames
        assert left >= margin or kept == total
        assert found.keep_frames >= 1
    assert kept == total
    if len(plan) > 1:
        assert {found.num_samples for found in plan} == {windowing.num_samples}


@given(st.integers(1, 5_000), st.integers(1, 700))
@settings(max_examples=50, deadline=None)
def test_the_first_pass_finds_mean_and_variance_whatever_the_blocks(num_samples, size):
    waveform = (3 + 0.1 * np.random.default_rng(num_samples).standard_normal(num_samples)).astype(np.float32)
    found = measure(blocks_of(waveform, size)())
    assert found.num_samples == num_samples
    np.testing.assert_allclose(found.normalized(waveform), normalized(waveform), atol=1e-6)


def test_windows_are_slices_of_the_recording_whatever_the_blocks():
    waveform = np.arange(20_000, dtype=np.float32)
    windowing = Windowing(
        window_frames=10, margin_frames=2, clock=Clock(sample_rate=16_000, hop_length=320, receptive_field=400)
    )
    for size in (1, 333, 5_000, 50_000):
        for window, found in cut(blocks_of(waveform, size)(), windowing.plan(20_000)):
            start = window.start_sample
            np.testing.assert_array_equal(found, waveform[start : start + window.num_samples])
    with pytest.raises(ValueError, match="ends at sample 19000"):
        list(cut([waveform[:19_000]], windowing.plan(20_000)))


def test_a_window_of_which_nothing_would_be_kept_is_refused(small_encoder):
    with pytest.raises(SettingsError, match="leaves nothing"):
        FeatureExtractor(encoder=small_encoder(), layers=[1], window_seconds=2.0, window_margin_seconds=1.0)


def machine(folder, **window):
    return FeatureExtractor(encoder=folder, layers=[1, 3], **window)


def speechlike(seconds, seed=0):
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.uniform(0.01, 0.2, seconds * 10 + 1), 1_600)[: seconds * 16_000]
    return (envelope * rng.standard_normal(len(envelope))).astype(np.float32)


@pytest.mark.parametrize("stable", [True, False])
def test_windows_give_the_frames_of_the_whole_recording_and_nearly_its_features(small_encoder, stable):
    waveform = speechlike(20)
    folder = small_encoder(stem="layer", stable=stable)
    found = machine(folder, window_seconds=6.0, window_margin_seconds=2.0).extract([waveform])[0]
    whole = machine(folder).alone().extract([waveform])[0]
    assert found[1].shape == whole[1].shape == (999, 48)
    for layer in (1, 3):
        difference = found[layer].astype(np.float32) - whole[layer].astype(np.float32)
        # Attention over 6 s instead of 20 s: the features of random networks move by a few percent.
        assert np.sqrt((difference**2).mean()) < 0.1 * np.abs(whole[layer].astype(np.float32)).std()


def test_a_streamed_recording_gives_the_bits_of_one_in_memory(small_encoder):
    waveform = speechlike(15)
    encoder = machine(small_encoder(), window_seconds=4.0, window_margin_seconds=1.0)
    in_memory = encoder.extract([waveform])[0]
    for size in (7_000, 160_000):
        streamed = encoder.extract([blocks_of(waveform, size)])[0]
        for layer in (1, 3):
            np.testing.assert_array_equal(streamed[layer], in_memory[layer])


def test_an_encoder_that_normalises_takes_mean_and_variance_of_the_whole_recording(small_encoder):
    waveform = speechlike(12)
    waveform[: 6 * 16_000] *= 20
    folder = small_encoder()
    settings = {"window_seconds": 4.0, "window_margin_seconds": 1.0}
    found = machine(folder, normalize_waveform=True, **settings).extract([waveform])[0]
    expected = machine(folder, normalize_waveform=False, **settings).extract([normalized(waveform)])[0]
    np.testing.assert_allclose(found[3].astype(np.float32), expected[3].astype(np.float32), atol=2e-2)
    other = machine(folder, normalize_waveform=False, **settings).extract([waveform])[0]
    assert np.abs(other[3].astype(np.float32) - expected[3].astype(np.float32)).max() > 0.2


def test_long_recordings_come_after_the_others_and_a_broken_one_costs_itself(small_encoder):
    broken = speechlike(9)
    broken[100_000] = np.nan
    encoder = machine(small_encoder(), window_seconds=4.0, window_margin_seconds=1.0)
    found = list(encoder.stream([speechlike(9), speechlike(2), broken, speechlike(3)]))
    assert [(type(x), x.row) for x in found][:1] == [(Rejected, 2)]
    assert [x.row for x in found[1:]] == [1, 3, *[0] * (len(found) - 3)]
    parts = [x for x in found if isinstance(x, FeaturePiece) and x.row == 0]
    assert [x.first_frame for x in parts] == list(np.cumsum([0] + [len(x.features[1]) for x in parts[:-1]]))
    assert len(join_pieces(parts)[1]) == encoder.encoder.num_frames(9 * 16_000)


def test_a_sound_is_at_its_frame_whatever_the_windows():
    # Cepstra hear 4 frames to each side and no further, so with that margin windows must not show at all.
    waveform = speechlike(30)
    whole = FeatureExtractor(encoder="mfcc", layers=[0]).alone().extract([waveform])[0][0]
    for window, margin in ((2.0, 0.08), (3.1, 0.5), (29.0, 2.0)):
        encoder = FeatureExtractor(
            encoder="mfcc", layers=[0], window_seconds=window, window_margin_seconds=margin, batch_seconds=7.0
        )
        found = encoder.extract([waveform])[0][0]
        assert found.shape == whole.shape
        np.testing.assert_allclose(found.astype(np.float32), whole.astype(np.float32), atol=1e-3, rtol=2e-3)
    unprotected = FeatureExtractor(encoder="mfcc", layers=[0], window_seconds=2.0, window_margin_seconds=0.0)
    assert np.abs(unprotected.extract([waveform])[0][0].astype(np.float32) - whole).max() > 0.1


def test_a_stream_that_holds_less_than_a_frame_is_too_short(small_encoder):
    found = machine(small_encoder()).extract([blocks_of(np.zeros(399, np.float32), 100), lambda: iter([])])
    assert [x.reason for x in found] == [Reason.TOO_SHORT] * 2


def test_a_stream_is_read_to_its_end_twice_and_no_more(small_encoder):
    waveform, ends = speechlike(9), []

    def blocks():
        yield from (waveform[:50_000], waveform[50_000:-100], waveform[-100:-1], waveform[-1:])
        ends.append(True)

    machine(small_encoder(), window_seconds=4.0, window_margin_seconds=1.0).extract([blocks])
    assert len(ends) == 2
