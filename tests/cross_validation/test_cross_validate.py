"""cross_validate whole, in this process: pooled figures by hand, what a killed run makes anew, what is refused."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_kills import KILLED, in_child
from made_tasks import COLUMNS, SMALL, write_task_corpus

from pipeline.cross_validation.folds import folds_of
from pipeline.cross_validation.settings import CrossValidateConfig, FoldSettings
from pipeline.cross_validation.stage import cross_validate
from pipeline.errors import PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

SPEAKERS = ("s/0", "s1", "s2")
NAMES = {"s/0": "s._0", "s1": "s1", "s2": "s2"}


def three_speakers(labels):
    return labels | {"speaker": {"s0": "s/0", "s3": "s1"}.get(labels["speaker"], labels["speaker"])}


def config_of(folder, output, task="er", **changes):
    inputs = {"manifest": str(folder / "manifest"), "tokens": str(folder / "tokens")}
    short = {"examples": 0, "num_steps": 3, "checkpoint_every": 3}
    return CrossValidateConfig.of(task=task, output=str(output), **{**SMALL, **short, **inputs, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    write_task_corpus(root, 24, change=three_speakers)
    cross_validate(config_of(root, root / "er"))
    return root


def facts(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def data_of(folder):
    """Hash what a reader sees, of all folds and of all together; TensorBoard puts times into its files."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    seen = {name: path for name, path in paths.items() if "/_" not in f"/{name}" and "tensorboard" not in name}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in seen.items()}


def test_every_utterance_is_tested_once_by_a_model_that_never_heard_its_speaker(folder):
    rows = pq.read_table(folder / "er" / "utterances.parquet").to_pylist()
    assert len(rows) == len({row["utterance_id"] for row in rows}) == 24
    assert {row["speaker"]: row["fold"] for row in rows} == NAMES
    for speaker, name in NAMES.items():
        plan = json.loads((folder / "er" / "folds" / name / "model" / "_plan.json").read_text())
        assert plan["content"]["test_speakers"] == [speaker]
        own = pq.read_table(folder / "er" / "folds" / name / "test" / "utterances.parquet").to_pylist()
        assert own == [{key: row[key] for key in row if key != "fold"} for row in rows if row["fold"] == name]


def test_pooled_figures_are_those_of_all_rows_and_folds_have_mean_and_standard_error(folder):
    rows = pq.read_table(folder / "er" / "utterances.parquet").to_pylist()
    told = facts(folder / "er", "metrics")
    pooled = told["sides"]["pooled"]
    right = [row["reference"] == row["hypothesis"] for row in rows]
    pairs = Counter((row["reference"], row["hypothesis"]) for row in rows)
    classes = sorted({name for pair in pairs for name in pair})
    assert pooled["confusion"]["classes"] == classes
    assert pooled["confusion"]["counts"] == [[pairs[true, taken] for taken in classes] for true in classes]
    assert pooled["utterances"] == 24
    assert pooled["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    there = {row["reference"] for row in rows}
    recalls = [np.mean([good for row, good in zip(rows, right, strict=True) if row["reference"] == n]) for n in there]
    assert pooled["metrics"]["uar"]["value"] == pytest.approx(np.mean(recalls))
    assert pooled["metrics"]["uar"]["low"] <= np.mean(recalls) <= pooled["metrics"]["uar"]["high"]
    shares = [np.mean([g for r, g in zip(rows, right, strict=True) if r["fold"] == n]) for n in NAMES.values()]
    assert [fold["metrics"]["accuracy"]["value"] for fold in told["folds"]] == pytest.approx(shares)
    assert [fold["tested_on"] for fold in told["folds"]] == [[name] for name in SPEAKERS]
    over = told["over_folds"]["accuracy"]
    assert over["mean"] == pytest.approx(np.mean(shares))
    assert over["standard_error"] == pytest.approx(np.std(shares, ddof=1) / 3**0.5)
    assert over["folds"] == 3


def test_pooled_layer_use_is_the_mean_over_all_real_frames(folder):
    rows = pq.read_table(folder / "er" / "utterances.parquet").to_pylist()
    use = facts(folder / "er", "layer_use")
    frames = np.array([row["num_frames"] for row in rows])
    means = np.array([[row[f"weight_{name}"] for name in COLUMNS] for row in rows])
    expected = (frames[:, None] * means).sum(axis=0) / frames.sum()
    assert use["sides"]["pooled"]["all"]["mean"] == pytest.approx(expected)
    assert set(use["sides"]["pooled"]["by_speaker"]) == set(SPEAKERS)
    own = [facts(folder / "er" / "folds" / name / "test", "layer_use") for name in NAMES.values()]
    of_folds = np.array([each["sides"]["test"]["all"]["mean"] for each in own])
    assert [use["over_folds"][name]["mean"] for name in COLUMNS] == pytest.approx(of_folds.mean(axis=0))
    errors = [use["over_folds"][name]["standard_error"] for name in COLUMNS]
    assert errors == pytest.approx(of_folds.std(axis=0, ddof=1) / 3**0.5, rel=1e-6)


def test_the_page_has_a_row_and_a_link_per_fold_and_asks_no_network(folder):
    page = (folder / "er" / "index.html").read_text()
    for name in NAMES.values():
        assert f'<a href="folds/{name}/test/index.html">' in page
        assert (folder / "er" / "folds" / name / "test" / "index.html").exists()
    assert "Mean over folds and its standard error" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_all_of_it_is_verified_shown_by_status_and_compared(folder, tmp_path):
    assert verify_dataset(VerifyDatasetConfig(dataset=str(folder / "er"))).faults == []
    found = run_status(str(folder / "er"))
    assert Counter(state.kind for state in found) == {"cross_validation": 1, "task": 3, "evaluation": 3}
    assert all(state.finished for state in found)
    table = evaluate(EvaluateConfig.of(compare=(str(folder / "er"),), output=str(tmp_path / "compared")))
    assert table.rows[0]["metrics"] == facts(folder / "er", "metrics")["sides"]["pooled"]["metrics"]


def test_a_killed_run_goes_on_and_makes_no_finished_fold_again(folder, tmp_path):
    config = config_of(folder, tmp_path / "er")
    second = str(tmp_path / "er" / "folds" / "s1" / "test")
    fault = {"point": "after_shard_table_before_success", "match": second, "action": "kill"}
    ended = in_child(cross_validate, config, [fault])
    assert ended.code == KILLED
    states = {state.uri: state.finished for state in run_status(config.output)}
    assert states[str(tmp_path / "er")] is False
    assert states[second] is False
    first = tmp_path / "er" / "folds" / "s._0"
    times = {path: path.stat().st_mtime_ns for path in first.glob("*/*.safetensors")}
    report = cross_validate(config)
    assert report.folds_done_now == 2
    assert times == {path: path.stat().st_mtime_ns for path in times} != {}
    assert data_of(tmp_path / "er") == data_of(folder / "er")
    again = cross_validate(config)
    assert again == replace(report, folds_done_now=0, wall_seconds=again.wall_seconds)


def test_groups_are_drawn_by_hash_and_of_equal_size(folder, tmp_path):
    values = [f"speaker {number}" for number in range(11)]
    drawn = folds_of(values, FoldSettings(num_folds=4), 0)
    assert sorted(value for group in drawn.values() for value in group) == sorted(values)
    assert sorted(map(len, drawn.values())) == [2, 3, 3, 3]
    assert drawn == folds_of(sorted(values, reverse=True), FoldSettings(num_folds=4), 0)
    assert drawn != folds_of(values, FoldSettings(num_folds=4), 1)
    report = cross_validate(config_of(folder, tmp_path / "two", "asr", num_folds=2))
    assert sorted(name for fold in report.folds for name in fold["tested_on"]) == sorted(SPEAKERS)
    assert report.pooled["utterances"] == 24
    rows = pq.read_table(tmp_path / "two" / "utterances.parquet").to_pylist()
    errors = sum(row[f"words_{kind}"] for row in rows for kind in ("substitutions", "deletions", "insertions"))
    wer = errors / sum(row["words_length"] for row in rows)
    assert report.pooled["metrics"]["wer"]["value"] == pytest.approx(wer)


def test_sessions_in_the_split_column_are_left_out_in_turn_and_sid_may_do_that(folder, tmp_path):
    config = config_of(folder, tmp_path / "sid", "sid", folds_by="split", fusion="concat", valid_fraction=0.0)
    report = cross_validate(config)
    assert [fold["tested_on"] for fold in report.folds] == [["test"], ["train"]]
    assert report.pooled["utterances"] == 24
    assert report.layer_use == {}
    assert "concatenation" in report.reason


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda labels: labels | {"speaker": None}, {}, "has no speaker for any utterance with emotion"),
        (
            lambda labels: labels | {"speaker": "ann"},
            {},
            r"has one speaker \(ann\); folds by speaker need at least two",
        ),
        (
            lambda labels: labels | {"speaker": None if labels["speaker"] == "s2" else labels["speaker"]},
            {},
            "has no speaker for 3 utterances with emotion",
        ),
        (lambda labels: labels | {"emotion": None}, {}, "has no speaker for any utterance with emotion"),
        (
            lambda labels: labels | {"emotion": "odd" if labels["speaker"] == "s1" else labels["emotion"]},
            {},
            "fold s1: .* test has emotion odd, which training never has",
        ),
        (lambda labels: labels, {"num_folds": 5}, "num_folds 5 is more than the 4 values of speaker"),
        (lambda labels: labels, {"folds_by": "split"}, "fold test: .* speakers of test would be heard in training"),
    ],
    ids=["no speaker", "one speaker", "some without", "no label", "class of one speaker", "too many", "heard"],
)
def test_folds_that_cannot_be_made_are_refused_in_one_sentence_before_anything_starts(tmp_path, change, settings, said):
    write_task_corpus(tmp_path, 12, change=change)
    with pytest.raises(SettingsError, match=said) as caught:
        cross_validate(config_of(tmp_path, tmp_path / "out", **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("sid", {}, "sid tells speakers apart that training has heard"),
        ("er", {"test_speakers": ("s1",)}, "test_speakers would divide the corpus a second time"),
        ("er", {"test_fraction": 0.2, "train_splits": ("a",)}, "train_splits, test_fraction would divide"),
        ("er", {"num_folds": 1}, "num_folds must be at least 2, got 1"),
        ("er", {"folds_by": "session"}, "folds_by must be speaker or split, got 'session'"),
        ("er", {"beam_width": 4}, "beam_width and language_model are settings of asr"),
    ],
)
def test_settings_that_make_no_folds_are_refused(folder, tmp_path, task, settings, said):
    with pytest.raises(SettingsError, match=said):
        config_of(folder, tmp_path / "out", task, **settings)


def test_another_setting_is_another_run_and_is_named(folder):
    with pytest.raises(PlanMismatchError, match=r"\n  lr: folder has "):
        cross_validate(config_of(folder, folder / "er", lr=1e-3))
    with pytest.raises(PlanMismatchError, match=r"\n  examples: folder has "):
        cross_validate(config_of(folder, folder / "er", examples=1))


@pytest.mark.ray
@pytest.mark.nightly
def test_folds_on_ray_have_the_figures_of_folds_in_one_process(folder, tmp_path, local_ray):
    told = {}
    for runner in ("here", "ray"):
        report = cross_validate(config_of(folder, tmp_path / runner, num_folds=2, runner=runner))
        told[runner] = (report.pooled, report.over_folds, report.layer_use)
    assert told["here"] == told["ray"]
