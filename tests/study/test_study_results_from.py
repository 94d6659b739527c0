"""Trials that are done in another run are taken over from its tables, and give the same report."""

import json

import pyarrow.parquet as pq
import pytest
from made_trials import PLAN, SHORT, config_of, planned, write_tones

from pipeline.errors import DatasetError
from pipeline.status import run_status
from pipeline.study import stage
from pipeline.study.estimating import estimate_study
from pipeline.study.planning.trials import unlike
from pipeline.study.stage import run_study

TIMES = ("seconds", "overhead_seconds")
COMPARED = ("levels", "shares", "claims", "findings", "layer_use", "spoken")


@pytest.fixture(scope="module")
def folder(small_encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("elsewhere")
    write_tones(root)
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    (root / "plan.toml").write_text(SHORT.format(encoder=encoder))
    run_study(config_of(root / "plan.toml", root))
    return root


def changed(folder, tmp_path, *pairs):
    text = (folder / "plan.toml").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "plan.toml").write_text(text)
    return tmp_path / "plan.toml"


def rows(output, *left_out):
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in pq.read_table(output / "results.parquet").to_pylist()
    ]


def facts(output):
    return json.loads((output / "study.json").read_text())


def test_what_is_done_elsewhere_is_not_run_and_the_report_is_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "run_trial", None)
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path), results_from=(str(folder / "study"),))
    report = run_study(config)
    assert (report.trials, report.trials_done, report.trials_done_now) == (4, 4, 0)
    assert not (tmp_path / "parts").exists()
    assert rows(tmp_path) == rows(folder / "study")
    mine, theirs = facts(tmp_path), facts(folder / "study")
    assert [mine[name] for name in COMPARED] == [theirs[name] for name in COMPARED]
    assert mine["layer_use"]
    assert ["taken over", "4 trials, from tables of other runs"] in mine["told"]
    tables = [pq.read_table(each / "utterances.parquet") for each in (tmp_path, folder / "study")]
    assert tables[0].equals(tables[1])
    assert [(state.kind, state.units, state.finished) for state in run_status(str(tmp_path))] == [("trials", 0, True)]


def test_the_rest_is_run(folder, tmp_path):
    first = changed(folder, tmp_path, ("seeds = [0, 1]", "seeds = [1]"))
    run_study(config_of(first, folder, output=str(tmp_path / "one")))
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(str(tmp_path / "one"),))
    report = run_study(config)
    assert (report.trials_done, report.trials_done_now) == (4, 2)
    assert rows(tmp_path / "s", *TIMES) == rows(folder / "study", *TIMES)
    assert [facts(tmp_path / "s")[name] for name in COMPARED] == [facts(folder / "study")[name] for name in COMPARED]


def test_an_estimate_leaves_out_what_is_done_elsewhere(folder, tmp_path):
    size = "[corpora.tones]\nexpected = { hours = 0.01, utterance_seconds = 1 }\n"
    sized = changed(
        folder, tmp_path, ("[corpora.tones]\n", size), ("num_steps = 4", "num_steps = 4\nexpected = { vocabulary = 2 }")
    )
    config = config_of(sized, folder, output=str(tmp_path / "s"))
    assert estimate_study(config).left == {"er": 4}
    assert estimate_study(config.but(results_from=(str(folder / "study"),))).left == {}


def test_a_trial_is_called_what_this_study_calls_it(folder, tmp_path):
    renamed = changed(folder, tmp_path, ("levels.4", "levels.four"), ("levels.8", "levels.eight"))
    run_study(config_of(renamed, folder, output=str(tmp_path / "s"), results_from=(str(folder / "study"),)))
    assert {row["level"] for row in rows(tmp_path / "s")} == {"centre", "four"}


def test_a_trial_that_is_judged_by_another_metric_is_run_again(folder, tmp_path, caplog):
    other = changed(folder, tmp_path, ("[tasks.er]\n", '[tasks.er]\nmetric = "accuracy"\n'))
    report = run_study(config_of(other, folder, output=str(tmp_path / "s"), results_from=(str(folder / "study"),)))
    assert report.trials_done_now == 4
    assert "4 trials of" in caplog.text
    assert "another metric" in caplog.text


def test_a_folder_without_tables_is_told(folder, tmp_path):
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(str(tmp_path / "no"),))
    with pytest.raises(DatasetError, match="has no results.parquet; give the folder of a study's report"):
        run_study(config)
    assert not (tmp_path / "s").exists()


def test_of_two_folders_that_have_a_trial_one_counts(folder, tmp_path):
    twice = (str(folder / "study"), str(folder / "study"))
    report = run_study(config_of(folder / "plan.toml", folder, output=str(tmp_path), results_from=twice))
    assert (report.trials_done, report.trials_done_now) == (4, 0)


def test_tables_of_another_kind_are_told_with_their_columns(folder, tmp_path):
    for name in ("results", "utterances"):
        table = pq.read_table(folder / "study" / f"{name}.parquet")
        pq.write_table(table if name == "utterances" else table.drop_columns("layer_use"), tmp_path / f"{name}.parquet")
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(str(tmp_path),))
    with pytest.raises(DatasetError, match="not a study's, or one of another version"):
        run_study(config)
    (tmp_path / "results.parquet").write_bytes(b"no table")
    with pytest.raises(DatasetError, match="results.parquet cannot be read"):
        run_study(config)
    assert not (tmp_path / "s").exists()


def test_a_trial_that_is_spoken_has_the_models_it_needs_trained_here():
    trials, _ = planned(PLAN.format(encoder="wavlm"))
    keys = {trial.key for trial in trials}
    spoken = next(trial for trial in trials if trial.cell.task.name == "tts" and trial.seed == 1)
    to_run = stage._to_run(unlike(trials), done=set(), taken=keys - {spoken.key})
    assert {trial.key for trial in to_run} == {spoken.key, *spoken.speech.after}
    assert {trial.cell.task.name for trial in to_run} == {"tts", "vocoder", "asr"}
    assert {trial.seed for trial in to_run} == {1}
    vocoder, listener = spoken.speech.after
    to_run = stage._to_run(unlike(trials), done={vocoder}, taken=keys - {spoken.key, vocoder})
    assert [trial.key for trial in to_run] == [listener, spoken.key]
