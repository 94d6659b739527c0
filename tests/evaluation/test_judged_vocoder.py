"""evaluate --vocoder whole: what is judged, that figures are those of the waveforms, and what is refused."""

import html
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from made_speech import write_small_vocoder
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.batches.sides import share
from pipeline.errors import CodebookMismatchError, DatasetError, PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.speech.sets import layer_sets
from pipeline.evaluation.stage import evaluate
from pipeline.metrics.speech.judge import Pair
from pipeline.metrics.speech.judging import judge_pairs
from pipeline.metrics.speech.registry import make_judges
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.vocoder.saved import load_vocoder, read_spec
from pipeline.vocoder.training.stage import train_vocoder

JUDGES = ("stft", "log_mel", "mcd")
SETS = ("all", *COLUMNS, "lower", "upper")
TEXT = "a <b>tone</b>"


def write_corpus(root, names=24, seed=3):
    seconds = np.random.default_rng(seed).uniform(0.5, 1.4, names)
    labels = {f"u{number:03d}": {"text": TEXT, "speaker": "ab"[number % 2]} for number in range(names)}
    write_corpus_of_tones(root, seconds, columns=COLUMNS, labels=labels)


def config_of(folder, output, vocoder="vocoder", **changes):
    inputs = {"tokens": str(folder / "tokens"), "manifest": str(folder / "manifest")}
    given = {"judges": JUDGES, "vocoder": str(folder / vocoder), "use_gpu": False, **inputs, **changes}
    return EvaluateConfig.of(output=str(output), **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("judged")
    write_corpus(root)
    train_vocoder(vocoder_config(root, root / "vocoder", num_steps=3, test_fraction=0.3))
    train_vocoder(vocoder_config(root, root / "single", num_steps=2, test_fraction=0.3, layers=(4,)))
    train_vocoder(vocoder_config(root, root / "whole", num_steps=2, test_fraction=0.3, layer_dropout=False))
    evaluate(config_of(root, root / "out", examples=2))
    return root


def facts(path):
    return json.loads((path / "metrics.json").read_text())


def rows_of(path):
    return pq.read_table(path / "utterances.parquet").to_pylist()


def held_out():
    """Ids between the shares of validation, 0.2, and of the test, 0.3 more."""
    return {name for name in (f"u{number:03d}" for number in range(24)) if 0.2 <= share(0, name) < 0.5}


def test_each_utterance_that_training_held_out_is_judged_in_every_condition_and_no_other_is(folder):
    rows = rows_of(folder / "out")
    assert {row["utterance_id"] for row in rows} == held_out()
    conditions = ["original", "griffin_lim", *SETS, "other"]
    assert len(rows) == len(conditions) * len(held_out())
    for name in held_out():
        assert [row["condition"] for row in rows if row["utterance_id"] == name] == conditions
    assert [told["condition"] for told in facts(folder / "out")["conditions"]] == conditions
    assert verify_dataset(VerifyDatasetConfig(dataset=str(folder / "out"))).faults == []
    (state,) = run_status(str(folder / "out"))
    assert (state.kind, state.finished) == ("speech_evaluation", True)


def test_figures_are_those_of_the_waveforms_that_the_vocoder_speaks_alone(folder):
    vocoder = load_vocoder(str(folder / "vocoder"))
    rows = {(row["utterance_id"], row["condition"]): row for row in rows_of(folder / "out")}
    tokens = {row["utterance_id"]: row for row in pq.read_table(folder / "tokens").to_pylist()}
    paths = {path.stem: path for path in (folder / "audio").iterdir()}
    judges = make_judges(JUDGES)
    for name in sorted(held_out())[:3]:
        ids = torch.tensor([[tokens[name][column] for column in COLUMNS]]).transpose(1, 2).long()
        length = ids.shape[1] * vocoder.hop_length
        reference = soundfile.read(paths[name], dtype="float32")[0][:length]
        for condition, present in (
            ("all", [True] * 3),
            ("layer_04", [False, True, False]),
            ("upper", [False, True, True]),
        ):
            with torch.inference_mode():
                made = vocoder(ids, torch.ones(ids.shape[:2], dtype=torch.bool), torch.tensor(present))[0].numpy()
            assert made.shape == reference.shape
            pair = Pair(utterance_id=name, condition=condition, generated=made, reference=reference)
            (expected,) = judge_pairs([pair], judges, most_lag_samples=400)
            found = rows[name, condition]
            for measure in ("stft_distance", "log_mel_distance", "mcd", "seconds", "lag_samples"):
                assert found[measure] == pytest.approx(expected[measure], rel=1e-4), (name, condition, measure)


def test_an_original_is_no_distance_from_itself_and_another_utterance_is_far(folder):
    means = {
        told["condition"]: told["figures"]["stft_distance"]["interval"]["value"]
        for told in facts(folder / "out")["conditions"]
    }
    assert means["original"] == 0
    assert 0 < means["griffin_lim"] < means["other"]


def test_differences_are_against_all_layers_over_the_same_utterances(folder):
    told = facts(folder / "out")
    assert told["compared_with"] == "all"
    assert [found["condition"] for found in told["differences"]] == list(SETS[1:])
    by = {}
    for row in rows_of(folder / "out"):
        by.setdefault(row["condition"], []).append(row["mcd"])
    for found in told["differences"]:
        expected = np.mean(by[found["condition"]]) - np.mean(by["all"])
        assert found["figures"]["mcd"]["interval"]["value"] == pytest.approx(expected, abs=1e-6)


def test_layer_use_is_a_share_of_each_layer(folder):
    use = facts(folder / "out")["layer_use"]
    assert list(use) == list(COLUMNS)
    assert sum(use.values()) == pytest.approx(1)


def test_the_page_plays_what_the_samples_hold_and_shows_text_as_text(folder):
    page = (folder / "out" / "index.html").read_text()
    assert page.count("<audio") == 2 * len(("original", "griffin_lim", *SETS))
    assert html.escape(TEXT) in page
    assert TEXT not in page
    vocoder, names = load_vocoder(str(folder / "vocoder")), sorted((folder / "out" / "samples").iterdir())
    assert {path.name for path in names} == {"original", "griffin_lim", *SETS}
    frames = {row["utterance_id"]: row["num_frames"] for row in pq.read_table(folder / "tokens").to_pylist()}
    for path in names:
        for sample in path.iterdir():
            samples, rate = soundfile.read(io.BytesIO(sample.read_bytes()))
            assert rate == 16_000
            assert len(samples) in {vocoder.hop_length * length for length in frames.values()}
    for name in SETS:
        lists = folder / "out" / "_versa" / name
        assert {path.name for path in lists.iterdir()} == {"wav.scp", "reference.scp", "text"}
        _, first = (lists / "wav.scp").read_text().splitlines()[0].split()
        assert first == str(folder / "out" / "samples" / name / "utterance_0.flac")


def test_another_run_with_the_same_settings_has_nothing_to_do_and_other_settings_are_refused(folder):
    before = (folder / "out" / "utterances.parquet").stat().st_mtime_ns
    evaluate(config_of(folder, folder / "out", examples=2))
    assert (folder / "out" / "utterances.parquet").stat().st_mtime_ns == before
    with pytest.raises(PlanMismatchError, match="num_utterances"):
        evaluate(config_of(folder, folder / "out", examples=2, num_utterances=3))


def test_a_corpus_of_its_own_is_judged_whole_by_any_vocoder_of_its_tokens(folder, tmp_path):
    write_corpus(tmp_path, names=5, seed=8)
    evaluate(config_of(tmp_path, tmp_path / "out", vocoder=folder / "vocoder", examples=0, layer_sets=("2+6",)))
    found = facts(tmp_path / "out")
    assert (found["side"], found["utterances"]) == ("all", 5)
    assert found["sets"] == {"2+6": ["layer_02", "layer_06"]}
    assert found["differences"] == []
    assert not (tmp_path / "out" / "samples").exists()
    with pytest.raises(SettingsError, match="leave --sides test out"):
        evaluate(config_of(tmp_path, tmp_path / "no", vocoder=folder / "vocoder", sides=("test",)))


def test_a_vocoder_of_one_layer_or_without_layer_dropout_is_judged_on_what_it_can_speak(folder, caplog):
    for name, columns, warned in (("single", ("layer_04",), False), ("whole", COLUMNS, True)):
        spec = read_spec(str(folder / name)).spec
        assert layer_sets(spec, columns, ("all", "each", "lower", "upper")) == {"all": columns}
        assert ("trained without layer dropout" in caplog.text) == warned
    with pytest.raises(SettingsError, match="never saw layer_02 alone"):
        layer_sets(spec, COLUMNS, ("2",))


def test_what_does_not_belong_together_is_refused_in_one_sentence(folder, tmp_path):
    write_corpus(tmp_path, names=4)
    lineage = json.loads((tmp_path / "tokens" / "_plan.json").read_text())
    lineage["lineage"]["codebooks"]["layer_04"] = "0" * 64
    (tmp_path / "tokens" / "_plan.json").write_text(json.dumps(lineage))
    other = {"tokens": str(tmp_path / "tokens"), "manifest": str(tmp_path / "manifest")}
    refused = [
        ({"layer_sets": ("9",)}, SettingsError, "asks for layer_09"),
        ({"sides": ("all",)}, SettingsError, "for a manifest of its own"),
        ({"sides": ("train",)}, SettingsError, "there is no side train"),
        ({"speaker": "eve"}, SettingsError, "it has one voice"),
        ({"judges": ("ear",)}, SettingsError, "no judge ear"),
        ({"tokens": other["tokens"]}, DatasetError, "another manifest"),
        (other, CodebookMismatchError, "codebook of layer_04"),
        ({"vocoder": str(tmp_path / "nowhere")}, SettingsError, "config.json is not there"),
    ]
    for changes, error, message in refused:
        with pytest.raises(error, match=message) as told:
            evaluate(config_of(folder, tmp_path / "out", **changes))
        assert "\n" not in str(told.value)
        assert not (tmp_path / "out").exists()


def test_a_vocoder_of_another_rate_than_judges_hear_is_refused(folder, tmp_path):
    write_small_vocoder(tmp_path / "slow")
    with pytest.raises(SettingsError, match="judges hear 16000 Hz, and .*slow speaks at 4000 Hz"):
        evaluate(config_of(folder, tmp_path / "out", vocoder=tmp_path / "slow"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "needs --tokens and --manifest"),
        ({"model": "x"}, "one of them"),
        ({"layer_sets": ("top",)}, "got 'top'"),
        ({"layer_sets": ()}, "at least one"),
        ({"layer_sets": ("2+6", "2+2")}, r"names each layer once, got 2\+2"),
        ({"judges": ("stft", "stft")}, "different names"),
        ({"num_utterances": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message):
        config_of(tmp_path, tmp_path / "out", **changes)
    with pytest.raises(SettingsError, match="settings of --vocoder"):
        EvaluateConfig.of(output="out", model="task", judges=("stft",))
