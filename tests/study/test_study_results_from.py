"""Trials that are done in another run are taken over from its tables, and give the same report."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from made_trials import PLAN, SHORT, config_of, planned, write_tones

from pipeline.errors import DatasetError, PlanMismatchError
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
    assert rows(tmp_path, "folder") == rows(folder / "study", "folder")
    assert {row["folder"] for row in rows(tmp_path)} == {""}
    mine, theirs = facts(tmp_path), facts(folder / "study")
    assert [mine[name] for name in COMPARED] == [theirs[name] for name in COMPARED]
    assert mine["layer_use"]
    assert ["taken over", "4 trials of other runs, of which only figures are here"] in mine["told"]
    tables = [pq.read_table(each / "utterances.parquet") for each in (tmp_path, folder / "study")]
    assert tables[0].equals(tables[1])
    assert [(state.kind, state.units, state.finished) for state in run_status(str(tmp_path))] == [("trials", 0, True)]


def test_the_rest_is_run(folder, tmp_path):
    first = changed(folder, tmp_path, ("seeds = [0, 1]", "seeds = [1]"))
    run_study(config_of(first, folder, output=str(tmp_path / "one")))
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(str(tmp_path / "one"),))
    report = run_study(config)
    assert (report.trials_done, report.trials_done_now) == (4, 2)
    assert rows(tmp_path / "s", "folder", *TIMES) == rows(folder / "study", "folder", *TIMES)
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
    assert "are not taken over: another metric judges them there" in caplog.text


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


def test_what_was_taken_over_stays_without_the_folder_it_came_from(folder, tmp_path):
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path), results_from=(str(folder / "study"),))
    run_study(config)
    before = rows(tmp_path)
    again = run_study(config.but(results_from=()))
    assert (again.trials_done, again.trials_done_now) == (4, 0)
    assert rows(tmp_path) == before


def test_figures_of_other_recordings_are_refused(folder, tmp_path):
    write_tones(tmp_path, count=12)
    more = changed(folder, tmp_path, ("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    config = config_of(more, tmp_path, output=str(tmp_path / "s"), results_from=(str(folder / "study"),))
    with pytest.raises(PlanMismatchError, match="manifests tones is 24 utterances of .* there and 12 utterances of"):
        run_study(config)
    assert not (tmp_path / "s" / "trials").exists()
    assert run_study(config.but(results_from=(), max_hours=1e-9)).trials_done == 0


def test_figures_of_other_weights_are_refused(folder, tmp_path, small_encoder):
    encoder = small_encoder(kind="hubert", stem="group", stable=False, seed=1)
    named = (folder / "plan.toml").read_text().split('encoder = "')[1].split('"')[0]
    shutil.copytree(encoder, tmp_path / "enc")
    kept = tmp_path / "kept"
    shutil.move(named, kept)
    try:
        shutil.copytree(tmp_path / "enc", named)
        more = changed(folder, tmp_path, ("seeds = [0, 1]", "seeds = [0, 1, 2]"))
        config = config_of(more, folder, output=str(tmp_path / "s"), results_from=(str(folder / "study"),))
        with pytest.raises(PlanMismatchError, match="features tones-small is of encoder"):
            run_study(config)
    finally:
        shutil.rmtree(named)
        shutil.move(kept, named)


def test_a_folder_that_has_none_of_the_trials_is_told(folder, tmp_path, caplog):
    given = {"results_from": (str(folder / "study"),), "threads_per_trial": 2, "max_hours": 1e-9}
    report = run_study(config_of(folder / "plan.toml", folder, output=str(tmp_path), **given))
    assert report.trials_done == 0
    assert "has none of the 4 trials that are not done here" in caplog.text


def test_a_trial_that_is_spoken_has_the_models_it_needs_trained_here():
    trials, _ = planned(PLAN.format(encoder="wavlm"))
    keys = {trial.key for trial in trials}
    spoken = next(trial for trial in trials if trial.cell.task.name == "tts" and trial.seed == 1)
    to_run = stage.trials_to_run(unlike(trials), (), set(), keys - {spoken.key})
    assert {trial.key for trial in to_run} == {spoken.key, *spoken.speech.after}
    assert {trial.cell.task.name for trial in to_run} == {"tts", "vocoder", "asr"}
    assert {trial.seed for trial in to_run} == {1}
    vocoder, listener = spoken.speech.after
    to_run = stage.trials_to_run(unlike(trials), (), {vocoder}, keys - {spoken.key, vocoder})
    assert [trial.key for trial in to_run] == [listener, spoken.key]
    to_run = stage.trials_to_run(unlike(trials), ("tts",), set(), keys - {spoken.key})
    assert {trial.key for trial in to_run} == {spoken.key, *spoken.speech.after}
    to_run = stage.trials_to_run(unlike(trials), ("tts",), set(), set())
    assert {trial.cell.task.name for trial in to_run} == {"tts"}
