"""A study whole, in this process: made, begun again, changed, and what its tables say."""

import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made_trials import PLAN, config_of, write_tones

from pipeline.errors import PlanMismatchError, SettingsError, StorageError, TrainingError
from pipeline.features.encoders.info import describe
from pipeline.metrics.uncertainty import over_seeds
from pipeline.status import run_status
from pipeline.store.storage import open_store
from pipeline.study import running, stage
from pipeline.study.metrics import Part
from pipeline.study.planning.trials import plan_trials
from pipeline.study.random_encoder import RandomEncoderConfig, make_random_encoder
from pipeline.study.stage import read_named, run_study
from pipeline.study.statistics.comparing import value_of


@pytest.fixture(scope="module")
def folder(small_encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("tones")
    write_tones(root)
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    fewer = PLAN.replace('tasks = ["vocoder", "asr", "se", "tts"]', 'tasks = ["vocoder", "asr"]')
    (root / "plan.toml").write_text(fewer.format(encoder=encoder))
    return root


@pytest.fixture(scope="module")
def report(folder):
    return run_study(config_of(folder / "plan.toml", folder))


def results(folder):
    return pq.read_table(folder / "study" / "results.parquet").to_pylist()


def facts(folder):
    return json.loads((folder / "study" / "study.json").read_text())


def test_every_trial_is_run_and_the_report_is_there(folder, report):
    assert (report.trials, report.trials_done, report.trials_done_now, report.failed) == (16, 16, 16, {})
    assert (folder / "study" / "index.html").stat().st_size > 1000
    assert (folder / "study" / "report.md").stat().st_size > 1000


def test_each_encoder_hears_each_corpus_once(folder, report):
    features = sorted(path.name.rpartition("-")[0] for path in (folder / "study" / "parts" / "features").iterdir())
    assert features == [f"{corpus}-small" for corpus in ("noisy", "noisy_test", "test", "tones")]
    costs = {cost["what"]: cost for cost in facts(folder)["costs"]}
    assert costs["encoder passes"]["count"] == 4
    assert costs["trials of asr"]["count"] == 6


def test_a_level_is_the_mean_of_its_rows_over_seeds(folder, report):
    rows = results(folder)
    for level in facts(folder)["levels"]:
        mine = [row for row in rows if row["trial"] in level["trials"] and row["metric"] == level["metric"]
                and row["condition"] in ("", "all")]  # fmt: skip
        figure = over_seeds([row["value"] for row in sorted(mine, key=lambda row: row["seed"])])
        assert level["figure"]["mean"] == pytest.approx(figure.mean)
        assert level["figure"]["runs"] == 2


def test_a_row_is_what_its_utterances_give(folder, report):
    rows = {(row["trial"], row["condition"], row["metric"]): row for row in results(folder)}
    metrics = facts(folder)["tasks"]
    parts = {}
    for row in pq.read_table(folder / "study" / "utterances.parquet").to_pylist():
        part = Part(numerator=row["numerator"], denominator=row["denominator"], group=row["group"])
        parts.setdefault((row["trial"], row["condition"]), {})[row["utterance_id"]] = part
    tasks = {row["trial"]: row["task"] for row in results(folder)}
    for (trial, condition), mine in parts.items():
        row = rows[trial, condition, metrics[tasks[trial]]]
        assert value_of(mine) == pytest.approx(row["value"])
        assert len(mine) == row["utterances"]
    assert {task for task in tasks.values()} == set(metrics)


def test_what_is_heard_counts_every_text_of_the_test(folder, report):
    heard = [row for row in results(folder) if row["task"] in ("se", "tts") and row["metric"] == "cer"]
    assert len(heard) == 4
    assert {row["utterances"] for row in heard} == {6}


def test_bits_follow_from_layers_and_clusters(folder, report):
    rows = {(row["task"], row["factor"], row["level"]): row["bits_per_second"] for row in results(folder)
            if row["condition"] in ("", "all")}  # fmt: skip
    assert rows["asr", "", "centre"] == 50 * 2 * 3
    assert rows["asr", "layers", "low"] == 50 * 3
    assert rows["asr", "num_clusters", "4"] == 50 * 2 * 2


def test_a_study_that_is_done_runs_nothing_again(folder, report, monkeypatch):
    monkeypatch.setattr(stage, "run_trial", None)
    before = results(folder)
    again = run_study(config_of(folder / "plan.toml", folder))
    assert (again.trials_done, again.trials_done_now) == (16, 0)
    assert results(folder) == before


def test_a_changed_study_runs_only_what_is_new(folder, report):
    changed = folder / "changed.toml"
    text = (folder / "plan.toml").read_text()
    changed.write_text(text.replace("levels.4 = { num_clusters = 4 }", "levels.6 = { num_clusters = 6 }"))
    again = run_study(config_of(changed, folder))
    assert (again.trials, again.trials_done, again.trials_done_now) == (16, 16, 2)
    assert {row["level"] for row in results(folder) if row["factor"] == "num_clusters"} == {"6"}
    run_study(config_of(folder / "plan.toml", folder))
    assert {row["level"] for row in results(folder) if row["factor"] == "num_clusters"} == {"4"}


def test_a_trial_that_was_stopped_is_begun_again_and_counted(folder, report):
    _, study = read_named(str(folder / "plan.toml"))
    trials, _ = plan_trials(study, config_of(folder / "plan.toml", folder).located())
    trial = next(each for each in trials if each.name == "er, centre, seed 0")
    store = open_store(trial.folder)
    told = store.read("trial.json")
    store.delete(["trial.json"])
    ran = running.run_trial(None, trial)
    assert (ran.starts, ran.overhead_seconds) == (2, 0.0)
    store.write("trial.json", told)


def test_the_status_of_a_study_is_its_parts_and_its_trials(folder, report):
    states = run_status(str(folder / "study"))
    assert all(state.finished for state in states)
    told = {state.kind: (state.done, state.units) for state in states}
    assert told["trials"] == (16, 16)
    assert set(told) == {"manifest", "mixtures", "features", "codebooks", "tokens", "trials"}


def test_no_trial_begins_when_the_time_is_over(folder, report, tmp_path):
    found = run_study(
        config_of(folder / "plan.toml", folder, max_hours=1e-9, tasks=("er",), output=str(tmp_path / "s"))
    )
    assert (found.trials, found.trials_done) == (16, 0)


def without_trial(folder, output, key):
    """Copy the tables of a study, without a trial."""
    output.mkdir()
    for name in ("results", "utterances"):
        table = pq.read_table(folder / "study" / f"{name}.parquet")
        pq.write_table(table.filter(pc.not_equal(table["trial"], key)), output / f"{name}.parquet")
    return str(output)


def test_a_spoken_trial_that_was_not_taken_over_gets_the_models_it_needs(folder, report, tmp_path):
    row = next(row for row in results(folder) if (row["task"], row["level"], row["seed"]) == ("tts", "centre", 1))
    tables = without_trial(folder, tmp_path / "tables", row["trial"])
    again = run_study(
        config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(tables,), tasks=("tts",))
    )
    assert (again.trials_done, again.trials_done_now) == (16, 3)
    found = pq.read_table(tmp_path / "s" / "results.parquet").to_pylist()
    assert {each["task"] for each in found if each["folder"]} == {"tts", "vocoder", "asr"}
    values = [{(each["trial"], each["condition"], each["metric"]): each["value"] for each in rows}
              for rows in (found, results(folder))]  # fmt: skip
    assert values[0] == values[1]


def test_a_model_that_was_taken_over_and_fails_here_is_told(folder, report, tmp_path, monkeypatch):
    def fail(config):
        raise RuntimeError("a library gave up")

    row = next(row for row in results(folder) if row["task"] == "se")
    tables = without_trial(folder, tmp_path / "tables", row["trial"])
    monkeypatch.setattr(running, "train_vocoder", fail)
    with pytest.raises(TrainingError, match="1 of 16 trials failed, first vocoder, .*a library gave up"):
        run_study(config_of(folder / "plan.toml", folder, output=str(tmp_path / "s"), results_from=(tables,)))


def test_a_trial_that_fails_is_told_and_the_others_are_run(folder, report, monkeypatch, tmp_path):
    text = (folder / "plan.toml").read_text() + "\n[factors.rate]\ntasks = ['er']\n"
    plan = tmp_path / "plan.toml"
    plan.write_text(
        text.replace("[tasks.se]", "lr = 1e-4\n\n[tasks.se]").replace(
            "embedding_dim = 16\n", "embedding_dim = 16\nclip_norm = 1.0\n"
        )
        + "levels.sane = { clip_norm = 1.0 }\nlevels.wild = { clip_norm = 2.0 }\n"
    )
    train = running.train_task

    def fail(config):
        if config.optimizer.clip_norm == 2.0:
            raise TrainingError("the loss is not finite after step 1")
        return train(config)

    monkeypatch.setattr(running, "train_task", fail)
    with pytest.raises(
        TrainingError, match="2 of 18 trials failed, first er, rate wild, seed 0: TrainingError: the loss"
    ):
        run_study(config_of(plan, folder, tasks=("er",), output=str(folder / "study")))
    wild = ["er, rate wild, seed 0", "er, rate wild, seed 1"]
    assert [each["name"] for each in facts(folder)["failures"]] == wild
    # What failed is told as long as it is not done.
    with pytest.raises(TrainingError, match="2 of 18 trials failed"):
        run_study(config_of(plan, folder, tasks=("asr",), output=str(folder / "study")))
    assert [each["name"] for each in facts(folder)["failures"]] == wild


def test_a_task_that_the_study_has_not_is_refused(folder, report):
    with pytest.raises(SettingsError, match="tasks: the study has no sid; it has vocoder, asr, er, se, tts"):
        run_study(config_of(folder / "plan.toml", folder, tasks=("sid",)))


def test_random_weights_have_the_shape_of_their_encoder_and_follow_the_seed(folder, small_encoder, tmp_path):
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_random_encoder(RandomEncoderConfig(like=str(encoder), seed=seed, output=str(tmp_path / name)))
    infos = [describe(str(path)) for path in (encoder, *(tmp_path / name for name in "abc"))]
    assert len({(info.num_layers, info.dim, info.conv_stride, info.normalize_waveform) for info in infos}) == 1
    assert infos[1].weights_sha256 == infos[2].weights_sha256
    assert len({info.weights_sha256 for info in infos}) == 3


def test_an_encoder_without_weights_has_no_random_ones(tmp_path):
    with pytest.raises(SettingsError, match="mfcc has no weights that could be random"):
        make_random_encoder(RandomEncoderConfig(like="mfcc", output=str(tmp_path / "x")))


def test_gpus_that_are_not_there_are_told_before_a_trial_begins(folder, report, tmp_path):
    with pytest.raises(SettingsError, match=r"no machine has 1 CPU\(s\) and 1 GPU\(s\) for a trial"):
        run_study(
            config_of(folder / "plan.toml", folder, gpus_per_trial=1.0, tasks=("er",), output=str(tmp_path / "s"))
        )


def test_what_is_no_error_of_ours_fails_one_trial_and_is_told(folder, report, monkeypatch, tmp_path):
    def fail(config):
        raise RuntimeError("a library gave up")

    monkeypatch.setattr(running, "train_task", fail)
    with pytest.raises(TrainingError, match="2 of 16 trials failed, first er, centre, seed 0: RuntimeError: a library"):
        run_study(config_of(folder / "plan.toml", folder, tasks=("er",), output=str(tmp_path / "s")))


def test_a_corpus_that_is_another_one_now_is_refused(folder, report, tmp_path):
    write_tones(tmp_path, count=12)
    with pytest.raises(PlanMismatchError, match="corpus_sha256"):
        run_study(config_of(folder / "plan.toml", folder, data=str(tmp_path)))


def test_an_output_that_is_a_file_is_told(folder, report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written.*give another --output"):
        run_study(config_of(folder / "plan.toml", folder, output=str(tmp_path / "file" / "s")))


def test_a_study_that_is_no_text_is_told(folder, tmp_path):
    (tmp_path / "plan.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        run_study(config_of(tmp_path / "plan.toml", folder))
