"""Rows of judged utterances: their order, their nulls with reasons, their memory, and figures of a set."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_voices import pair, voice, with_noise

from pipeline.errors import SettingsError, UnjudgedError
from pipeline.metrics.error_rates import ErrorCounts
from pipeline.metrics.speech.judge import Judge, Measure, Pair, Score
from pipeline.metrics.speech.judging import judge_pairs, libraries
from pipeline.metrics.speech.registry import WITHOUT_LIBRARIES, make_judges
from pipeline.metrics.speech.rows import row_schema, write_rows
from pipeline.metrics.speech.summary import paired, summarize


class Words(Judge):
    """Counts as errors the samples of what is judged that are not 0, over those there are."""

    name = "words"
    measures = (Measure(name="wer", unit="", higher_is_better=False, counted=True),)
    texts = ("heard",)
    needs_reference = False

    def score(self, pair):
        if pair.text is None:
            raise UnjudgedError("no_text", "it has no transcript")
        wrong = int((pair.generated != 0).sum())
        counts = ErrorCounts(substitutions=wrong, deletions=0, insertions=0, length=len(pair.generated))
        return Score(values={"wer": counts}, texts={"heard": pair.text.upper()})


class Level(Judge):
    """Gives the peak, but not of silence."""

    name = "level"
    measures = (Measure(name="peak", unit="", higher_is_better=True),)
    needs_reference = False

    def score(self, pair):
        if not pair.generated.any():
            raise UnjudgedError("silent", "it is silent")
        return Score(values={"peak": float(pair.generated.max())})


def flat(value, num_samples=10):
    return np.full(num_samples, value, np.float32)


def test_rows_come_in_the_order_of_the_utterances_and_conditions():
    pairs = [pair(flat(0.5), name=name, condition=condition) for name in ("b", "a") for condition in ("x", "y")]
    rows = list(judge_pairs(pairs, [Level()]))
    assert [(row["utterance_id"], row["condition"]) for row in rows] == [("b", "x"), ("b", "y"), ("a", "x"), ("a", "y")]
    assert rows == list(judge_pairs(pairs, [Level()]))


def test_only_one_utterance_is_held_at_a_time():
    alive = []

    def pairs():
        for number in range(5):
            waveform = flat(0.1 * (number + 1))
            gc.collect()
            assert sum(one() is not None for one in alive) <= 1
            alive.append(weakref.ref(waveform))
            yield pair(waveform, name=str(number))

    assert len(list(judge_pairs(pairs(), [Level()]))) == 5


def test_what_cannot_be_judged_is_null_with_a_reason_and_takes_nothing_from_the_others(tmp_path):
    judges = [*make_judges(WITHOUT_LIBRARIES), Words(), Level()]
    clean = voice(1.0)
    pairs = [
        pair(clean, name="whole", text="a"),
        replace(pair(clean, name="alone", text="a"), reference=None),
        pair(clean[:8000], clean, name="half", text="a"),
        pair(0 * clean, clean, name="silent", text="a"),
        pair(clean, name="untold"),
    ]
    assert write_rows(judge_pairs(pairs, judges), judges, tmp_path / "rows.parquet") == 5
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.schema.equals(row_schema(judges))
    rows = {row["utterance_id"]: row for row in table.to_pylist()}
    assert rows["whole"]["unjudged"] == []
    found = {name: {why["measure"]: why["reason"] for why in row["unjudged"]} for name, row in rows.items()}
    comparing = ("stft_distance", "spectral_convergence", "log_stft_distance", "log_mel_distance", "mcd")
    assert found["alone"] == dict.fromkeys(comparing, "no_reference")
    assert found["half"] == dict.fromkeys(comparing, "lengths_differ")
    assert found["silent"] == {"mcd": "silent", "peak": "silent"}
    assert found["untold"] == {"wer": "no_text"}
    for name, why in found.items():
        columns = {measure.name for judge in judges for measure in judge.measures}
        assert {column for column in columns if rows[name][column] is None} == set(why)
    assert rows["whole"]["heard"] == "A"
    assert (rows["untold"]["heard"], rows["untold"]["wer_length"]) == (None, None)
    assert (rows["whole"]["wer_errors"], rows["whole"]["wer_length"]) == (16_000, 16_000)


def test_a_frame_too_many_is_cut_before_judges_compare():
    clean = voice(1.0)
    longer = np.concatenate([clean, 0.1 * clean[:800]])
    row = next(judge_pairs([pair(longer, clean)], make_judges(["mcd", "stft"])))
    assert (row["mcd"], row["stft_distance"]) == (0, 0)
    assert row["seconds"] == 1.05


@pytest.mark.parametrize("late", [-160, 80, 320])
def test_a_lag_is_found_told_and_taken_out_where_it_is_asked_for(late):
    clean = voice(1.5)
    moved = np.roll(clean, late) * np.float32(-0.5)
    judges = make_judges(["mcd"])
    row = next(judge_pairs([pair(moved, clean)], judges, most_lag_samples=400))
    assert row["lag_samples"] == late
    assert row["mcd"] < 0.05
    asked_less = next(judge_pairs([pair(moved, clean)], judges, most_lag_samples=32))
    assert abs(asked_less["lag_samples"]) <= 32
    unasked = next(judge_pairs([pair(moved, clean)], judges))
    assert unasked["lag_samples"] is None
    assert unasked["mcd"] > row["mcd"] + 0.3


def test_noise_has_no_lag_of_its_own():
    clean = voice(1.5)
    rows = judge_pairs([pair(with_noise(clean, 5), clean), pair(0 * clean, clean)], [Level()], most_lag_samples=400)
    assert [row["lag_samples"] for row in rows] == [0, 0]


def test_a_waveform_that_is_none_is_refused_by_name():
    bad = {"float64": np.zeros(10), "(2, 10)": np.zeros((2, 10), np.float32), "finite": flat(np.nan)}
    for found, waveform in bad.items():
        with pytest.raises(SettingsError, match="u1") as caught:
            list(judge_pairs([pair(waveform, flat(0.1), name="u1")], [Level()]))
        assert found in str(caught.value)
    with pytest.raises(SettingsError, match="peak"):
        judge_pairs([], [Level(), Level()])
    with pytest.raises(SettingsError, match="most_lag_samples"):
        judge_pairs([], [Level()], most_lag_samples=-1)


def test_a_set_has_the_rate_of_its_sums_and_the_mean_of_its_values_and_tells_who_is_missing():
    half = np.concatenate([flat(0.5, 5), flat(0, 5)])
    pairs = [
        pair(half, name="a", text="x"),
        pair(flat(0.25, 30), name="b", text="x"),
        pair(flat(0), name="c", text="x"),
        pair(flat(0.75), name="d"),
    ]
    judges = [Words(), Level()]
    figures = summarize(list(judge_pairs(pairs, judges)), judges)["c"]
    assert figures["wer"].interval.value == pytest.approx(35 / 50)
    assert (figures["wer"].utterances, figures["wer"].unjudged) == (3, {"no_text": 1})
    assert figures["peak"].interval.value == pytest.approx(0.5)
    assert figures["peak"].interval.low < 0.5 < figures["peak"].interval.high
    assert (figures["peak"].utterances, figures["peak"].unjudged) == (3, {"silent": 1})


def test_a_condition_without_any_value_has_no_figure():
    rows = list(judge_pairs([pair(flat(0), condition="mute"), pair(flat(0.5))], [Level()]))
    figures = summarize(rows, [Level()])
    assert list(figures) == ["mute", "c"]
    assert figures["mute"]["peak"].interval is None
    assert figures["mute"]["peak"].unjudged == {"silent": 1}


def test_two_conditions_are_compared_on_the_utterances_that_both_have():
    peaks = {"first": [0.3, 0.5, 0.9, 0.0], "second": [0.2, 0.4, 0.8, 0.7, 0.6]}
    pairs = [pair(flat(v), name=str(n), condition=c) for c, values in peaks.items() for n, v in enumerate(values)]
    rows = list(judge_pairs(pairs, [Level()]))
    figure = paired(rows, Level.measures[0], "first", "second")
    assert figure.interval.value == pytest.approx(0.1)
    assert figure.interval.high - figure.interval.low < 1e-6
    assert (figure.utterances, figure.unjudged) == (3, {"absent": 1, "unjudged": 1})
    assert paired(rows, Level.measures[0], "second", "first").interval.value == pytest.approx(-0.1)
    with pytest.raises(SettingsError, match="has no rows"):
        paired(rows, Level.measures[0], "first", "third")
    with pytest.raises(SettingsError, match="twice"):
        paired([*rows, rows[0]], Level.measures[0], "first", "second")


def test_whose_figures_they_are_is_told():
    found = libraries(make_judges(["mcd", "dnsmos"]))
    assert found["mcd"] is None
    assert (found["dnsmos"]["name"], len(found["dnsmos"]["weights_sha256"])) == ("speechmos", 64)


class Voices(Judge):
    """Gives how many samples the two have together, whatever their times."""

    name = "voices"
    measures = (Measure(name="both", unit="", higher_is_better=True),)
    same_times = False

    def score(self, pair):
        return Score(values={"both": float(len(pair.generated) + len(pair.reference))})


def test_a_judge_of_voices_takes_a_reference_of_any_length_and_needs_one():
    long, short = flat(0.5, 9000), flat(0.5, 3000)
    spoken = Pair(utterance_id="a", condition="c", generated=long, reference=short)
    (row,) = judge_pairs([spoken], [*make_judges(["stft"]), Voices()])
    assert row["both"] == 12_000
    assert [(why["measure"], why["reason"]) for why in row["unjudged"]] == [("stft_distance", "lengths_differ")] + [
        (measure.name, "lengths_differ") for measure in make_judges(["stft"])[0].measures[1:]
    ]
    (row,) = judge_pairs([replace(spoken, reference=None)], [Voices()])
    assert (row["both"], row["unjudged"][0]["reason"]) == (None, "no_reference")
