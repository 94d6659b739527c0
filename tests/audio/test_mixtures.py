"""Levels and mixtures of arrays: what P.56 measures, ratios that are kept, rooms without delay."""

import numpy as np
import pytest
import soundfile
from made_audio import RATE
from made_mixtures import speech

from pipeline.audio.mixtures.adding import add, in_room, stretch
from pipeline.audio.mixtures.levels import SILENCE, active_power, mean_power
from pipeline.audio.mixtures.units import mixture_id, shard_and_pass, unit_names


def db(ratio):
    return 10 * np.log10(ratio)


def slow_active_power(waveform, rate):
    """P.56 method B sample by sample, as its flow chart says, with thresholds a factor of 2 apart."""
    keep, hangover = np.exp(-1 / (0.03 * rate)), int(np.ceil(0.2 * rate))
    thresholds = 2.0 ** np.arange(-20, 0)
    active, hang = np.zeros(20, int), np.full(20, hangover)
    first = second = 0.0
    waveform = waveform.astype(float) - waveform.mean(dtype=float)
    for sample in np.abs(waveform):
        first = keep * first + (1 - keep) * sample
        second = keep * second + (1 - keep) * first
        above = second >= thresholds
        active += above | (hang < hangover)
        hang = np.where(above, 0, hang + (hang < hangover))
    levels = db(np.sum(waveform**2) / active[active > 0])
    margins = levels - 20 * np.log10(thresholds[active > 0])
    after = int(np.argmax(margins <= 15.9))
    share = (margins[after - 1] - 15.9) / (margins[after - 1] - margins[after])
    return 10 ** ((levels[after - 1] + share * (levels[after] - levels[after - 1])) / 10)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_active_level_is_that_of_the_standard_sample_by_sample(seed):
    waveform = speech(2.0, seed, rate=4_000).astype(np.float32)
    assert active_power(waveform, 4_000) == pytest.approx(slow_active_power(waveform, 4_000), rel=1e-9)


def test_silence_around_speech_changes_its_mean_power_and_next_to_nothing_of_its_active_level():
    said = speech(2.0, 3).astype(np.float32)
    padded = np.pad(said, (2 * RATE, 2 * RATE))
    assert db(mean_power(said) / mean_power(padded)) == pytest.approx(db(3), abs=1e-4)
    assert db(active_power(said, RATE) / active_power(padded, RATE)) == pytest.approx(0, abs=0.5)
    steady = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    assert db(active_power(steady, RATE) / mean_power(steady)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "waveform",
    [np.zeros(0), np.zeros(100), np.full(3, 1e-5), np.r_[1.0, np.zeros(RATE)], np.ones(RATE), np.full(RATE, 2.0**-16)],
    ids=["empty", "silent", "faint", "impulse", "full", "one step"],
)
def test_any_waveform_has_a_finite_level_not_below_its_mean(waveform):
    waveform = waveform.astype(np.float32)
    level = active_power(waveform, RATE)
    assert np.isfinite(level)
    assert level >= mean_power(waveform) * (1 - 1e-12)


def test_the_levels_of_voicebank_demand_are_those_it_was_mixed_at(speech_root):
    nominal = {"test": np.array([2.5, 7.5, 12.5, 17.5]), "train": np.array([0.0, 5.0, 10.0, 15.0])}
    off = []
    for path in sorted((speech_root / "VoiceBank-DEMAND").glob("clean_*/*.flac")):
        clean, rate = soundfile.read(path, dtype="float32")
        noisy, _ = soundfile.read(str(path).replace("/clean_", "/noisy_"), dtype="float32")
        split = "test" if "testset" in path.parent.name else "train"
        ratio = db(active_power(clean, rate) / mean_power(noisy - clean))
        off.append(np.abs(ratio - nominal[split]).min())
    assert len(off) == 29
    assert np.median(off) < 0.1
    assert max(off) < 0.6


def test_the_ratio_is_the_one_asked_for_and_the_sum_does_not_pass_full_scale():
    said = speech(1.0, 0).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    for snr_db in (-10.0, 0.0, 30.0):
        mixture = add(said, noise, snr_db, mean_power(said))
        gain = 10 ** (mixture.gain_db / 20)
        added = mixture.waveform / gain - said
        assert db(mean_power(said) / mean_power(added)) == pytest.approx(snr_db, abs=1e-3)
        assert mean_power(added * gain) == pytest.approx(mixture.noise_power, rel=1e-3)
        assert np.abs(mixture.waveform).max() <= 32_767 / 32_768
        # Only a sum that is too large is scaled.
        assert (mixture.gain_db == 0) == (np.abs(said + added).max() <= 32_767 / 32_768)
    assert add(said, noise, -10.0, mean_power(said)).gain_db < 0


def test_a_room_keeps_time_sign_and_level_of_the_direct_path():
    said = speech(1.0, 0).astype(np.float32)
    response = np.r_[np.zeros(400), -0.5, np.zeros(99), 0.1].astype(np.float32)
    heard = in_room(said, response)
    expected = said - 0.2 * np.r_[np.zeros(100), said[:-100]]
    assert heard == pytest.approx(expected, abs=2e-6)
    lags = np.correlate(heard, said, "full")
    assert np.argmax(lags) == len(said) - 1


def test_a_constant_offset_is_no_sound():
    said = speech(1.0, 0).astype(np.float32)
    assert mean_power(said + np.float32(0.1)) == pytest.approx(mean_power(said), rel=1e-5)
    assert active_power(said + np.float32(0.1), RATE) == pytest.approx(active_power(said, RATE), rel=1e-4)
    assert mean_power(np.full(RATE, 0.5)) == active_power(np.full(RATE, 0.5), RATE) == 0
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    added = add(said, noise + 7, 20.0, mean_power(said)).waveform - said
    assert added.mean() == pytest.approx(0, abs=1e-6)
    response = np.r_[1.0, np.full(999, 0.05)].astype(np.float32)
    heard = in_room(said + np.float32(0.1), response)
    assert heard == pytest.approx(in_room(said, response) + 0.1, abs=1e-4)


def test_a_short_noise_begins_anew_where_it_ends():
    assert stretch(np.arange(4), 3, 7).tolist() == [3, 0, 1, 2, 3, 0, 1]
    assert stretch(np.arange(9), 0, 3).tolist() == [0, 1, 2]


def test_units_and_ids_of_passes_are_parted_again():
    shards = ["shard-00000", "shard-12345"]
    assert unit_names(shards, 1) == shards
    units = unit_names(shards, 2)
    assert units == ["shard-00000-1", "shard-00000-2", "shard-12345-1", "shard-12345-2"]
    assert [shard_and_pass(unit) for unit in units] == [(shard, number) for shard in shards for number in (0, 1)]
    assert shard_and_pass("shard-00007") == ("shard-00007", 0)
    assert mixture_id("a", 0, 1) == "a"
    assert [mixture_id("a", number, 2) for number in (0, 1)] == ["a.-1", "a.-2"]


def test_the_faintest_noise_that_counts_is_one_step_of_16_bits():
    assert mean_power(2.0**-15 * np.resize([1.0, -1.0], 10)) == SILENCE
