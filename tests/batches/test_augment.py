"""What is done to crops: power and alignment stay, noise is as loud as asked, settings out of range are refused."""

import numpy as np
import pytest

from pipeline.batches.augment import (
    Augmenter,
    AugmentSettings,
    add_noise,
    change_speed,
    draw_speed,
    equalize,
    in_room,
    narrow,
)
from pipeline.errors import SettingsError


def sound(num_samples, seed=0):
    return np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)


def power(waveform):
    return float(np.mean(waveform.astype(np.float64) ** 2))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("length", [300, 7_000, 100_000])
def test_noise_is_as_loud_as_asked_and_the_power_stays(snr_db, length):
    time = np.arange(50_000)
    waveform, noise = np.sin(time / 7).astype(np.float32), 30 * sound(length, 1)
    found = add_noise(waveform, noise, snr_db, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert power(found) == pytest.approx(power(waveform), rel=1e-4)
    # The share of speech in the sum, by least squares; the rest is noise.
    speech = waveform * (found @ waveform) / (waveform @ waveform)
    assert 10 * np.log10(power(speech) / power(found - speech)) == pytest.approx(snr_db, abs=0.3)


def test_a_short_noise_is_repeated_and_a_silent_one_changes_nothing():
    waveform = np.zeros(1000, np.float32)
    waveform[0] = 1
    found = add_noise(waveform, sound(100), 0.0, np.random.default_rng(0))
    assert np.array_equal(found[100:900], found[200:1000])
    assert add_noise(waveform, np.zeros(100, np.float32), 0.0, np.random.default_rng(0)) is waveform


def test_stretches_of_noise_begin_anywhere():
    noise = np.arange(1, 101, dtype=np.float32)
    firsts = {
        float(np.argmin(add_noise(np.full(100, 1e-6, np.float32), noise, -60.0, np.random.default_rng(seed))))
        for seed in range(200)
    }
    assert len(firsts) > 60


def test_a_room_keeps_power_and_the_direct_path_has_no_delay():
    response = np.zeros(4000, np.float32)
    response[[700, 1500, 3900]] = 0.9, -0.5, 0.2
    waveform = np.zeros(8000, np.float32)
    waveform[2000] = 1
    found = in_room(waveform, response)
    assert found.shape == waveform.shape
    assert found.dtype == np.float32
    assert int(np.argmax(np.abs(found))) == 2000
    assert power(found) == pytest.approx(power(waveform), rel=1e-4)
    # The echoes, as late and as loud as in the response.
    assert found[[2800, 5200]] / found[2000] == pytest.approx([-0.5 / 0.9, 0.2 / 0.9], abs=1e-4)
    assert abs(found[1300]) < 1e-4


def test_a_room_longer_than_the_crop_gives_the_crops_length():
    assert in_room(sound(50), sound(5000, 1)).shape == (50,)


@pytest.mark.parametrize("silent", ["crop", "room"])
def test_silence_stays_finite(silent):
    waveform = np.zeros(500, np.float32) if silent == "crop" else sound(500)
    assert np.isfinite(narrow(equalize(waveform, np.ones(8), 16_000), 16_000)).all()
    response = np.zeros(100, np.float32) if silent == "room" else sound(100, 1)
    found = add_noise(in_room(waveform, response), sound(100, 2), 5.0, np.random.default_rng(0))
    assert np.isfinite(found).all()
    # A response without any sound in it is no room: the crop stays.
    assert power(found) == pytest.approx(power(waveform), rel=1e-3)


def tone(hertz, num_samples=16_000):
    return np.sin(2 * np.pi * hertz / 16_000 * np.arange(num_samples)).astype(np.float32)


def loudness(waveform, hertz):
    """Give the amplitude of a tone in the middle of a second of sound."""
    middle = waveform[4000:12_000]
    return 2 * abs(np.mean(middle * np.exp(-2j * np.pi * hertz / 16_000 * np.arange(4000, 12_000))))


def test_an_equaliser_gives_octaves_their_gains_and_straight_lines_between_them():
    gains = np.array([0.0, 0.0, 0.0, 6.0, -12.0, 10.0, 0.0, 0.0])
    mixed = tone(500) + tone(1000) + tone(2000) + tone(1000 * 2**0.5)
    found = equalize(mixed, gains, 16_000)
    assert found.dtype == np.float32
    assert power(found) == pytest.approx(power(mixed), rel=1e-4)
    relative = [20 * np.log10(loudness(found, hertz) / loudness(found, 500)) for hertz in (1000, 2000, 1000 * 2**0.5)]
    assert relative == pytest.approx([-18.0, 4.0, -7.0], abs=0.05)


def test_filters_have_no_delay_and_do_not_wrap_around():
    clicks = np.zeros(4000, np.float32)
    clicks[[2000, 3999]] = 1
    for found in (equalize(clicks, np.linspace(-20, 20, 8), 16_000), narrow(clicks, 16_000)):
        assert found.shape == clicks.shape
        assert int(np.argmax(np.abs(found[:3000]))) == 2000
        assert np.abs(found[:500]).max() < 1e-3 * np.abs(found).max()


def test_a_telephone_carries_nothing_above_4_khz():
    found = narrow(tone(1000) + tone(3700) + tone(5000), 16_000)
    low, edge, high = (loudness(found, hertz) for hertz in (1000, 3700, 5000))
    assert high < 1e-4 * low
    assert edge == pytest.approx(low / 2, rel=0.01)


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_changes_length_and_pitch_together(speed):
    waveform = np.sin(2 * np.pi * 0.02 * np.arange(16_000)).astype(np.float32)
    found = change_speed(waveform, speed, int(16_000 / speed))
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found))))
    assert np.argmax(spectrum) / len(found) == pytest.approx(0.02 * speed, rel=0.002)
    assert power(found) == pytest.approx(0.5, rel=0.01)


def test_samples_that_the_resampler_lacks_are_zero_and_those_over_are_cut():
    waveform = sound(1000)
    assert change_speed(waveform, 1.25, 700).shape == (700,)
    assert change_speed(waveform, 1.25, 900)[850:].tolist() == [0.0] * 50
    assert np.array_equal(change_speed(waveform, 1.0, 400), waveform[:400])


def test_speeds_are_drawn_within_the_range_as_often_as_asked():
    settings = AugmentSettings(speed_range=0.1, speed_probability=0.5)
    rng = np.random.default_rng(0)
    drawn = np.array([draw_speed(settings, rng) for _ in range(4000)])
    assert drawn.min() == pytest.approx(0.9)
    assert drawn.max() == pytest.approx(1.1)
    # A twentieth of those drawn are 1.00 after rounding.
    assert np.mean(drawn != 1) == pytest.approx(0.475, abs=0.03)
    assert len(set(drawn.tolist())) == 21
    assert {draw_speed(AugmentSettings(speed_probability=1.0), rng) for _ in range(50)} == {1.0}


def test_crops_are_augmented_as_often_as_asked_and_are_not_changed_in_place():
    waveform = sound(2000)
    kept = waveform.copy()
    filters = [{"equalizer_range": 6.0, "equalizer_probability": 0.4}, {"narrowband_probability": 0.4}]
    settings = AugmentSettings(noise_probability=0.3, room_probability=0.2)
    rng = np.random.default_rng(0)
    rooms = [np.r_[1.0, np.zeros(99), 0.5].astype(np.float32)]
    for noises, responses, share in (([sound(900, 1)], [], 0.3), ([], rooms, 0.2), ([], [], 0.0)):
        augment = Augmenter(settings, 16_000, noises, responses)
        changed = [not np.array_equal(augment(waveform, rng), kept) for _ in range(1500)]
        assert np.mean(changed) == pytest.approx(share, abs=0.04)
    for given in filters:
        augment = Augmenter(AugmentSettings(**given), 16_000, [], [])
        changed = [not np.array_equal(augment(waveform, rng), kept) for _ in range(1500)]
        assert np.mean(changed) == pytest.approx(0.4, abs=0.04)
    assert np.array_equal(waveform, kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speed_range", 0.6),
        ("speed_range", -0.1),
        ("speed_range", float("nan")),
        ("speed_probability", 1.1),
        ("equalizer_range", -1.0),
        ("equalizer_range", float("inf")),
        ("equalizer_probability", 1.5),
        ("narrowband_probability", -0.5),
        ("noise_probability", -0.1),
        ("room_probability", 2.0),
        ("min_snr_db", 30.0),
        ("max_snr_db", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        AugmentSettings(**{name: value}).check_augmentation()


def test_settings_in_range_are_taken():
    AugmentSettings(speed_range=0.5, min_snr_db=5.0, max_snr_db=5.0).check_augmentation()
