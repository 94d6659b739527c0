"""mix_corpus: ratios as asked for, pairs on one clock, the same bytes however they are made, refusals in a sentence."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import RATE
from made_corpus import data_bytes
from made_kills import KILLED, in_child
from made_mixtures import (
    SPLITS,
    manifest_of,
    mixing,
    rows_of,
    speech,
    write_clean,
    write_noises,
    write_recordings,
    write_rooms,
)

from pipeline import cli
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.audio.mixtures.levels import active_power, mean_power
from pipeline.audio.mixtures.stage import mix_corpus
from pipeline.batches.clean import check_clean
from pipeline.errors import PlanMismatchError, SettingsError, TooManyRejectsError
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

CLOCK = Clock(sample_rate=RATE, hop_length=320, receptive_field=400)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six clean utterances of two splits, noises without splits, two rooms: their manifests."""
    folder = tmp_path_factory.mktemp("mixed")
    return write_clean(folder / "clean"), write_noises(folder / "noises"), write_rooms(folder / "rooms")


def clean_of(row):
    return soundfile.read(row["clean_uri"])[0]


def db(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize("level", ["active", "mean"])
def test_what_the_mixture_has_beside_the_clean_recording_is_noise_at_the_ratio_of_its_row(made, tmp_path, level):
    clean, noises, _ = made
    report = mix_corpus(mixing(clean, noises, tmp_path / "out", snr_db=(-5.0, 20.0), level=level, passes=3))
    rows = rows_of(tmp_path / "out")
    assert (report.rows, report.rejects, len(rows)) == (18, 0, 18)
    power = active_power if level == "active" else lambda waveform, _: mean_power(waveform)
    for row in rows.values():
        said = clean_of(row)
        noise = row["samples"] / 10 ** (row["gain_db"] / 20) - said
        assert db(power(said, RATE) / mean_power(noise)) == pytest.approx(row["snr_db"], abs=0.02)
        assert -5 <= row["snr_db"] <= 20
        assert row["noise"] in ("long", "short", "late", "other")
        assert row["room"] is None
        assert np.abs(row["samples"]).max() < 1
        assert row["gain_db"] <= 0
    drawn = [row["snr_db"] for row in rows.values()]
    assert report.snr_db == pytest.approx({"lowest": min(drawn), "mean": np.mean(drawn), "highest": max(drawn)})
    assert report.notes["scaled_down"] == sum(row["gain_db"] < 0 for row in rows.values()) > 0
    assert ("speech to noise", f"{min(drawn):.1f} to {max(drawn):.1f} dB, mean {np.mean(drawn):.1f}") in report.lines()
    assert report.audio_hours * 3600 == pytest.approx(3 * sum(1.0 + 0.3 * number for number in range(6)))


def test_a_list_of_ratios_is_chosen_from(made, tmp_path):
    clean, noises, _ = made
    mix_corpus(mixing(clean, noises, tmp_path / "out", snrs=(0.0, 10.0), passes=4))
    assert {row["snr_db"] for row in rows_of(tmp_path / "out").values()} == {0.0, 10.0}


def test_a_noise_shorter_than_the_utterance_is_repeated_and_the_next_pass_begins_elsewhere(tmp_path):
    noise = np.clip(0.2 * np.random.default_rng(0).standard_normal(RATE // 3), -0.9, 0.9)
    noises = write_recordings(tmp_path / "noises", {"short": noise})
    clean = write_clean(tmp_path / "clean", count=1)
    mix_corpus(mixing(clean, noises, tmp_path / "out", snrs=(0.0,), passes=2))
    stretches = []
    for row in rows_of(tmp_path / "out").values():
        added = row["samples"] / 10 ** (row["gain_db"] / 20) - clean_of(row)
        period = RATE // 3
        assert added[:period] == pytest.approx(added[period : 2 * period], abs=2e-4)
        stretches.append(added[:period] / np.linalg.norm(added[:period]))
    assert not np.allclose(*stretches, atol=1e-3)


def test_in_a_room_the_noisy_recording_stays_on_the_clock_of_the_clean_one(made, tmp_path):
    clean, noises, rooms = made
    config = mixing(clean, noises, tmp_path / "out", rooms=rooms, room_probability=1.0, snrs=(60.0,))
    report = mix_corpus(config)
    assert report.notes["in_rooms"] == 6
    for row in rows_of(tmp_path / "out").values():
        said, heard = clean_of(row), row["samples"] / 10 ** (row["gain_db"] / 20)
        assert row["room"] in ("room0", "room1")
        assert len(said) == len(heard)
        lags = np.correlate(heard, said, "full") / (said @ said)
        assert np.argmax(np.abs(lags)) == len(said) - 1
        assert lags[len(said) - 1] == pytest.approx(1.0, abs=0.25)
        assert not np.allclose(heard, said, atol=0.02)


def test_rooms_are_heard_as_often_as_asked_and_change_neither_noise_nor_ratio(made, tmp_path):
    clean, noises, rooms = made
    mix_corpus(mixing(clean, noises, tmp_path / "dry", passes=5))
    mix_corpus(mixing(clean, noises, tmp_path / "half", passes=5, rooms=rooms, room_probability=0.5))
    dry, half = rows_of(tmp_path / "dry"), rows_of(tmp_path / "half")
    assert 7 <= sum(row["room"] is not None for row in half.values()) <= 23
    for name, row in half.items():
        assert (row["noise"], row["snr_db"]) == (dry[name]["noise"], dry[name]["snr_db"])
        assert np.array_equal(row["samples"], dry[name]["samples"]) == (row["room"] is None)


def test_the_bytes_depend_on_seed_utterance_and_pass_alone(made, tmp_path):
    clean, noises, _ = made
    mix_corpus(mixing(clean, noises, tmp_path / "one", num_workers=1))
    mix_corpus(mixing(clean, noises, tmp_path / "two", num_workers=2))
    assert data_bytes(tmp_path / "one") == data_bytes(tmp_path / "two")
    # In other shards and another order, and as the first of several passes.
    listing = Path(clean).parent / "listing.jsonl"
    turned = Path(clean).parent / "turned.jsonl"
    turned.write_text("\n".join(listing.read_text().splitlines()[::-1]) + "\n")
    whole = manifest_of(turned, tmp_path / "whole", shard_minutes=30)
    mix_corpus(mixing(whole, noises, tmp_path / "three", passes=2))
    one, three = rows_of(tmp_path / "one"), rows_of(tmp_path / "three")
    assert len(Manifest(whole).units) == 1 < len(Manifest(clean).units)
    assert len(three) == 2 * len(one)
    for name, row in one.items():
        first, second = three[f"{name}.-1"], three[f"{name}.-2"]
        assert first["audio"]["bytes"] == row["audio"]["bytes"]
        assert second["snr_db"] != row["snr_db"]
    mix_corpus(mixing(clean, noises, tmp_path / "four", seed=1))
    four = rows_of(tmp_path / "four")
    assert all(row["snr_db"] != four[name]["snr_db"] for name, row in one.items())


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_with_one_worker_or_two_gives_the_mixtures_of_this_process(made, tmp_path):
    clean, noises, rooms = made
    config = mixing(clean, noises, tmp_path / "here", rooms=rooms, passes=2)
    mix_corpus(config)
    for workers in (1, 2):
        there = config.but(output=str(tmp_path / f"{workers}"), runner="ray", num_workers=workers)
        assert mix_corpus(there).rows == 12
        assert data_bytes(there.output) == data_bytes(tmp_path / "here")


def test_killed_at_each_step_a_rerun_ends_with_the_same_mixtures(made, tmp_path):
    clean, noises, rooms = made
    whole = mixing(clean, noises, tmp_path / "whole", rooms=rooms)
    mix_corpus(whole)
    config = whole.but(output=str(tmp_path / "out"))
    points = ("after_plan", "mix", "after_data_before_commit", "after_commit_before_publish", "before_shard_table")
    for number, point in enumerate(points):
        match = f"u..{number}" if point == "mix" else ""
        assert in_child(mix_corpus, config, [{"point": point, "match": match, "action": "kill"}]).code == KILLED, point
    mix_corpus(config)
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "whole")
    again = mix_corpus(config)
    assert again.units_done_now == 0
    assert again.snr_db == mix_corpus(whole).snr_db
    assert verify_dataset(VerifyDatasetConfig(dataset=config.output)).faults == []
    (state,) = run_status(config.output)
    assert (state.kind, state.finished, state.rows) == ("mixtures", True, 6)
    with pytest.raises(PlanMismatchError, match="seed"):
        mix_corpus(config.but(seed=3))


def test_utterances_get_noises_and_rooms_of_their_own_split(made, tmp_path):
    clean, _, _ = made
    noises, rooms = write_noises(tmp_path / "noises", SPLITS), write_rooms(tmp_path / "rooms", SPLITS)
    mix_corpus(mixing(clean, noises, tmp_path / "out", rooms=rooms, room_probability=1.0, passes=4))
    rows = rows_of(tmp_path / "out").values()
    found = {split: {row["noise"] for row in rows if row["split"] == split} for split in SPLITS}
    assert found == {"train": {"long", "late"}, "test": {"short", "other"}}
    assert {(row["split"], row["room"]) for row in rows} == {("train", "room0"), ("test", "room1")}


def test_the_manifest_names_the_clean_partner_and_keeps_the_labels(made, tmp_path):
    clean, noises, _ = made
    mix_corpus(mixing(clean, noises, tmp_path / "out", passes=2))
    noisy = Manifest(str(tmp_path / "out" / "_manifest"))
    assert check_clean(noisy, Manifest(clean), CLOCK) == 0
    rows = [row for unit in noisy.units for row in noisy.rows(unit).to_pylist()]
    source = {
        row["utterance_id"]: row for unit in Manifest(clean).units for row in Manifest(clean).rows(unit).to_pylist()
    }
    assert len({row["utterance_id"] for row in rows}) == 12
    for row in rows:
        name = row["utterance_id"].removesuffix(".-1").removesuffix(".-2")
        assert row["clean_uri"] == source[name]["uri"]
        assert [row[label] for label in ("text", "speaker", "split")] == [
            source[name][label] for label in ("text", "speaker", "split")
        ]


@pytest.mark.parametrize("kind", ["segments", "mixtures"])
def test_partners_that_are_parts_of_a_file_are_named_by_uri_and_id(made, tmp_path, kind):
    """Segments share a recording, and mixtures that are mixed again share a shard."""
    clean, noises, _ = made
    source = str(tmp_path / "first" / "_manifest")
    if kind == "mixtures":
        mix_corpus(mixing(clean, noises, tmp_path / "first"))
    else:
        (tmp_path / "audio").mkdir()
        soundfile.write(tmp_path / "audio" / "talk.wav", speech(4.0, 0), RATE)
        (tmp_path / "segments.csv").write_text("recording,start,end\ntalk,0,1.5\ntalk,2,4\n")
        source = manifest_of(tmp_path / "audio", source, layout="folder", segments=str(tmp_path / "segments.csv"))
    report = mix_corpus(mixing(source, noises, tmp_path / "out"))
    noisy = Manifest(str(tmp_path / "out" / "_manifest"))
    assert report.rows == Manifest(source).num_rows > 1
    assert check_clean(noisy, Manifest(source), CLOCK) == 0
    for row in rows_of(tmp_path / "out").values():
        assert row["clean_uri"].endswith(f"#{row['utterance_id']}")


def test_each_keeps_the_rate_of_its_recording_where_that_is_asked_for(tmp_path):
    rates = {"a": 16_000, "b": 22_050, "c": 8_000}
    waveforms = {name: speech(1.5, number, rate) for number, (name, rate) in enumerate(rates.items())}
    clean = write_recordings(tmp_path / "clean", waveforms, rates=rates)
    noises = write_noises(tmp_path / "noises")
    mix_corpus(mixing(clean, noises, tmp_path / "own", sample_rate=0))
    mix_corpus(mixing(clean, noises, tmp_path / "one", sample_rate=8_000))
    own, one = rows_of(tmp_path / "own"), rows_of(tmp_path / "one")
    assert {name: (row["sample_rate"], row["num_samples"]) for name, row in own.items()} == {
        name: (rate, rate * 3 // 2) for name, rate in rates.items()
    }
    assert {(row["sample_rate"], row["num_samples"]) for row in one.values()} == {(8_000, 12_000)}
    assert {name: row["noise"] for name, row in own.items()} == {name: row["noise"] for name, row in one.items()}
    said = clean_of(own["b"])
    noise = own["b"]["samples"] / 10 ** (own["b"]["gain_db"] / 20) - said
    assert db(active_power(said, 22_050) / mean_power(noise)) == pytest.approx(own["b"]["snr_db"], abs=0.02)


def rejects_of(output):
    return {
        row["utterance_id"]: (row["reason"], row["detail"])
        for path in (Path(output) / "_rejects").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }


def test_silent_utterances_and_silent_noises_are_rejects_with_a_reason(made, tmp_path):
    noises = made[1]
    clean = write_recordings(tmp_path / "clean", {"mute": np.zeros(RATE), "loud": speech(1.0, 0)})
    report = mix_corpus(mixing(clean, noises, tmp_path / "out", max_reject_fraction=0.5, passes=2))
    assert report.reject_reasons == {"silent": 2}
    assert set(rejects_of(tmp_path / "out")) == {"mute.-1", "mute.-2"}
    assert list(rows_of(tmp_path / "out")) == ["loud.-1", "loud.-2"]
    silent = write_recordings(tmp_path / "silence", {"hush": np.zeros(5 * RATE)})
    with pytest.raises(TooManyRejectsError, match="silent_noise 6"):
        mix_corpus(mixing(made[0], silent, tmp_path / "hushed", max_reject_fraction=1.0))
    assert all("20 stretches drawn" in detail for _, detail in rejects_of(tmp_path / "hushed").values())


def test_another_stretch_is_drawn_in_place_of_a_silent_one(made, tmp_path):
    noise = np.r_[np.zeros(50 * RATE), 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)]
    noises = write_recordings(tmp_path / "noises", {"late": noise})
    report = mix_corpus(mixing(made[0], noises, tmp_path / "out", passes=5))
    assert (report.rows, report.rejects) == (30, 0)
    for row in rows_of(tmp_path / "out").values():
        added = row["samples"] / 10 ** (row["gain_db"] / 20) - clean_of(row)
        assert db(active_power(clean_of(row), RATE) / mean_power(added)) == pytest.approx(row["snr_db"], abs=0.02)


def test_a_noise_that_cannot_be_read_rejects_what_it_was_drawn_for_and_is_named(made, tmp_path):
    noises = write_noises(tmp_path / "noises")
    (tmp_path / "noises" / "long.wav").write_bytes(b"gone")
    report = mix_corpus(mixing(made[0], noises, tmp_path / "out", passes=3, max_reject_fraction=1.0))
    found = rejects_of(tmp_path / "out")
    assert report.rows + report.rejects == 18
    assert 0 < len(found) < 18
    assert all(f"long of {noises}" in detail for _, detail in found.values())


def test_noise_that_16_bits_do_not_hold_is_counted(made, tmp_path):
    report = mix_corpus(mixing(made[0], made[1], tmp_path / "out", snrs=(95.0,)))
    assert report.notes["noise_below_16_bits"] == 6


def test_what_does_not_fit_is_refused_in_a_sentence_before_anything_is_written(made, tmp_path):
    clean, noises, rooms = made
    of_train = write_noises(tmp_path / "train", ("train",))
    rooms_of_train = write_rooms(tmp_path / "train_rooms", ("train",))
    unsplit = write_recordings(tmp_path / "unsplit", {"u": speech(1.0, 0)})
    refused = [
        ({"noises": of_train}, r"no noise of the split test \(3 utterances\), but of train; each split of"),
        ({"rooms": rooms_of_train}, r"no room of the split test \(3 utterances\), but of train"),
        ({"noises": of_train, "manifest": unsplit}, r"no noise of the split none \(1 utterances\), but of train"),
        ({"noises": str(tmp_path)}, "--noises takes a manifest, as build_manifest --layout folder makes"),
        ({"rooms": str(tmp_path / "nowhere")}, "--rooms takes a manifest"),
        ({"snr_db": (5.0, 0.0)}, "lowest <= highest, got 5.0 0.0"),
        ({"snr_db": (0.0, 5.0), "snrs": (1.0,)}, "not both"),
        ({"snrs": (float("nan"),)}, "must be in"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"room_probability": 1.5}, "room_probability must be in"),
        ({"sample_rate": 10}, "sample_rate must be 0, or 2000 to"),
        ({"level": "loud"}, "level must be active or mean"),
        ({"max_utterance_seconds": 0.0}, "above 0"),
        ({"num_workers": 0}, "num_workers must be at least 1"),
    ]
    for settings, message in refused:
        given = {"manifest": clean, "noises": noises, "output": tmp_path / "out"} | settings
        with pytest.raises(SettingsError, match=message) as told:
            mix_corpus(mixing(**given))
        assert "\n" not in str(told.value)
        assert not (tmp_path / "out").exists()
    # Rooms that are never heard are not asked for.
    mix_corpus(mixing(clean, noises, tmp_path / "out", rooms=rooms_of_train, room_probability=0.0))


def test_the_command_line_takes_ratios_below_zero_and_tells_where_it_stands(made, tmp_path, capsys):
    flags = ["--manifest", made[0], "--noises", made[1], "--output", str(tmp_path / "out"), "--runner", "here"]
    cli.run(mix_corpus, description="", args=[*flags, "--snr-db", "-5", "5.5"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert -5 <= report["snr_db"]["lowest"] < report["snr_db"]["highest"] <= 5.5
    assert json.loads((tmp_path / "out" / "_report.json").read_text())["snr_db"] == report["snr_db"]
    cli.run(mix_corpus, description="", args=["--output", str(tmp_path / "out"), "--status"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["finished"]
