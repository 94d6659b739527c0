"""What a study costs, by hand and by the module."""

import json
from dataclasses import fields, replace

import pytest

from pipeline.errors import SettingsError
from pipeline.study.costing.assumptions import Assumptions
from pipeline.study.costing.costing import Fits, Passes, Trials, remaining, study_cost
from pipeline.study.costing.shapes import StepCost

GIVEN = Assumptions(
    gpu_tflops=100.0,
    float32_tflops=10.0,
    encoder_share=0.5,
    kmeans_share=0.2,
    training_share=0.1,
    vocoder_share=0.4,
    step_seconds=0.0,
    price_per_gpu_hour=2.0,
    price_per_gb_month=0.1,
    months=3.0,
)
PASSES = Passes(
    corpus="librispeech",
    encoder="wavlm-large",
    hours=100.0,
    encoder_gflop_per_second=40.0,
    layers=5,
    dim=1024,
    dtype="bfloat16",
)
FITS = Fits(name="wavlm-large", frames=500_000, dim=1024, num_clusters=1000, layers=5, iterations=20)
STEP = StepCost(parameters=3_000_000, saved_parameters=2_000_000, audio_seconds=50.0, forward=4e9, training=12e9)
TRIALS = Trials(task="asr", count=6, steps=10_000, cost=STEP, evaluated_hours=5.0)


def only(*, assumptions=GIVEN, **parts):
    (row,) = study_cost(**parts, assumptions=assumptions).rows
    return row


def test_passes_cost_the_encoder_and_the_frames_that_are_kept():
    row = only(passes=[PASSES])
    assert row.flop == 100 * 3600 * 40e9
    assert row.gpu_hours == pytest.approx(100 * 3600 * 40e9 / (100e12 * 0.5) / 3600)
    assert row.bytes == 100 * 3600 * 50 * 5 * 1024 * 2
    assert row.dollars == pytest.approx(row.gpu_hours * 2 + row.bytes / 1e9 * 0.1 * 3)
    assert (row.kind, row.what, row.audio_hours) == ("passes", "wavlm-large on librispeech", 100.0)


def test_frames_that_are_not_there_are_not_kept():
    some, more = replace(PASSES, kept=1_000), replace(PASSES, kept=10**12)
    assert only(passes=[some]).bytes == 1_000 * 5 * 1024 * 2
    assert only(passes=[more]).bytes == only(passes=[PASSES]).bytes
    assert only(passes=[some]).gpu_hours == only(passes=[PASSES]).gpu_hours


def test_tokens_have_one_value_a_frame_and_layer():
    assert only(passes=[replace(PASSES, dim=1)]).bytes == 100 * 3600 * 50 * 5 * 2


def test_float32_is_divided_by_its_own_peak():
    assert only(passes=[replace(PASSES, dtype="float32")]).gpu_hours == pytest.approx(
        10 * only(passes=[PASSES]).gpu_hours
    )


def test_k_means_costs_a_distance_of_each_frame_to_each_centroid_in_each_iteration():
    row = only(fits=[FITS])
    flop = 2 * 500_000 * 1000 * 1024 * 5 * 20
    assert row.flop == flop
    assert row.gpu_hours == pytest.approx(flop / (10e12 * 0.2) / 3600)
    assert row.bytes == 5 * 1000 * 1024 * 4
    assert row.audio_hours == 0


def test_trials_cost_their_steps_and_what_they_are_judged_on():
    row = only(trials=[TRIALS])
    flop = 6 * (10_000 * 50 * 12e9 + 5 * 3600 * 4e9)
    assert row.flop == pytest.approx(flop)
    assert row.gpu_hours == pytest.approx(flop / (10e12 * 0.1) / 3600)
    assert row.audio_hours == pytest.approx(6 * (10_000 * 50 / 3600 + 5))
    assert row.bytes == 6 * 2_000_000 * 4
    assert (row.count, row.what) == (6, "asr")


def test_a_step_takes_its_own_time_beside_its_arithmetic():
    slow = replace(GIVEN, step_seconds=0.5)
    extra = only(trials=[TRIALS], assumptions=slow).gpu_hours - only(trials=[TRIALS]).gpu_hours
    assert extra == pytest.approx(6 * 10_000 * 0.5 / 3600)


def test_a_vocoder_reaches_the_share_of_vocoders():
    row = only(trials=[replace(TRIALS, task="vocoder", name="on 3 layers")])
    assert row.gpu_hours == pytest.approx(only(trials=[TRIALS]).gpu_hours / 4)
    assert row.what == "on 3 layers"


@pytest.mark.parametrize(
    ("kind", "part", "name"),
    [
        ("passes", PASSES, "hours"),
        ("passes", PASSES, "encoder_gflop_per_second"),
        ("fits", FITS, "frames"),
        ("fits", FITS, "iterations"),
        ("fits", FITS, "num_clusters"),
        ("trials", replace(TRIALS, evaluated_hours=0.0), "steps"),
        ("trials", TRIALS, "count"),
    ],
)
def test_twice_of_it_costs_twice(kind, part, name):
    once, twice = only(**{kind: [part]}), only(**{kind: [replace(part, **{name: 2 * getattr(part, name)})]})
    assert twice.gpu_hours == pytest.approx(2 * once.gpu_hours)
    assert twice.flop == pytest.approx(2 * once.flop)


@pytest.mark.parametrize(
    ("name", "times"),
    [("price_per_gpu_hour", 2.0), ("training_share", 0.5), ("float32_tflops", 0.5)],
)
def test_each_assumption_moves_the_dollars_as_it_should(name, times):
    free = replace(GIVEN, months=0.0)
    changed = replace(free, **{name: times * getattr(free, name)})
    once, twice = (only(trials=[TRIALS], assumptions=given).dollars for given in (free, changed))
    assert twice == pytest.approx(2 * once)


def test_the_total_is_the_sum_of_the_rows():
    cost = study_cost([PASSES, PASSES], [FITS], [TRIALS], GIVEN)
    assert [row.kind for row in cost.rows] == ["passes", "passes", "kmeans", "trials"]
    for name in ("count", "audio_hours", "flop", "gpu_hours", "bytes", "dollars"):
        assert getattr(cost.total, name) == pytest.approx(sum(getattr(row, name) for row in cost.rows))


def test_nothing_costs_nothing():
    total = study_cost(assumptions=GIVEN).total
    assert (total.count, total.gpu_hours, total.bytes, total.dollars) == (0, 0, 0, 0)


def test_the_lines_say_every_row_and_every_assumption():
    cost = study_cost([PASSES], [FITS], [TRIALS], GIVEN)
    lines = dict(cost.lines())
    assert list(lines)[:4] == ["passes: wavlm-large on librispeech", "kmeans: wavlm-large, K = 1000", "trials: asr",
                               "total: all"]  # fmt: skip
    assert lines["passes: wavlm-large on librispeech"].startswith("1 times, 100.0 h of audio, 14.4 PFLOP, 0.08 GPU h")
    assert "184.32 GB" in lines["passes: wavlm-large on librispeech"]
    told = " ".join(value for label, value in cost.lines() if label.startswith("assumed"))
    for field in fields(Assumptions):
        value = getattr(GIVEN, field.name)
        shown = value if isinstance(value, str) else f"{value:.0%}" if field.name.endswith("_share") else f"{value:g}"
        assert shown in told, field.name


def test_a_cost_becomes_json_with_its_assumptions():
    cost = study_cost([PASSES], [FITS], [TRIALS], GIVEN)
    found = json.loads(json.dumps(cost.to_json()))
    assert found["total"]["dollars"] == pytest.approx(cost.total.dollars)
    assert found["assumptions"]["encoder_share"] == 0.5
    assert len(found["rows"]) == 3


def test_the_defaults_name_the_device_that_they_are_of():
    assert study_cost([PASSES]).assumptions == Assumptions()
    assert Assumptions().assumed_device in dict(study_cost().lines())["assumed device"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("gpu_tflops", 0.0), ("encoder_share", 0.0), ("vocoder_share", 1.1), ("step_seconds", -1.0), ("months", -1.0)],
)
def test_an_assumption_out_of_range_is_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        Assumptions(**{name: value})


def test_one_after_the_other_takes_the_sum_of_what_was_measured():
    assert remaining({"asr": 100.0, "sid": 10.0}, {"asr": 2, "sid": 3}, 1) == 230.0


def test_side_by_side_takes_no_less_than_the_longest():
    assert remaining({"asr": 100.0, "sid": 10.0}, {"asr": 1, "sid": 3}, 8) == 100.0
    assert remaining({"asr": 100.0, "sid": 10.0}, {"sid": 3, "asr": 1}, 2) == 110.0


def test_an_odd_trial_waits_for_a_place():
    assert remaining({"asr": 100.0}, {"asr": 3}, 2) == 200.0
    assert remaining({"asr": 100.0}, {"asr": 4}, 2) == 200.0


def test_nothing_left_takes_no_time():
    assert remaining({}, {}, 2) == 0.0
    assert remaining({}, {"asr": 0}, 2) == 0.0


def test_what_was_never_measured_is_named():
    with pytest.raises(SettingsError, match="no trial of sid has finished"):
        remaining({"asr": 1.0}, {"asr": 2, "sid": 1}, 2)
    with pytest.raises(SettingsError, match="at least 1, got 0"):
        remaining({"asr": 1.0}, {"asr": 2}, 0)
