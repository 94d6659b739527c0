"""What a study will cost is counted from its plan, from what it expects, and from trials that are done."""

import json

import pytest
from made_trials import PLAN, config_of, planned, write_tones

from pipeline.errors import SettingsError
from pipeline.study.estimating import estimate_study
from pipeline.study.planning.trials import plan_trials, unlike
from pipeline.study.stage import read_named

HOURS = {"tones": 2.0, "test": 0.5, "noise": 0.1}
EXPECTED = {
    "asr": "vocabulary = 9, tested_hours = 0.5",
    "er": "vocabulary = 2, tested_hours = 0.5",
    "tts": "vocabulary = 9",
}


def text_of(hours=HOURS):
    text = PLAN.format(encoder="encoder-small").replace("[1, 3]", "[2, 6]").replace("[1]", "[2]")
    for name, value in hours.items():
        expected = f"expected = {{ hours = {value}, utterance_seconds = 2.0 }}"
        text = text.replace(f"[corpora.{name}]\n", f"[corpora.{name}]\n{expected}\n")
    for name, value in EXPECTED.items():
        text = text.replace(f"[tasks.{name}]\n", f"[tasks.{name}]\nexpected = {{ {value} }}\n")
    return text


def estimate(folder, text, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "plan.toml").write_text(text)
    return estimate_study(config_of(folder / "plan.toml", folder, **changes))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return estimate(tmp_path_factory.mktemp("estimate") / "a", text_of())


def test_every_trial_and_every_pass_is_counted_once(told):
    assert told.trials == {"vocoder": 4, "asr": 6, "er": 2, "se": 4, "tts": 4}
    assert told.parts == {"manifests": 5, "features": 4, "codebooks": 2, "tokens": 5}
    rows = {kind: [row for row in told.cost.rows if row.kind == kind] for kind in ("passes", "kmeans", "trials")}
    assert {row.what: row.audio_hours for row in rows["passes"]} == {
        "small on tones": 2.0, "small on noisy": 2.0, "small on test": 0.5, "small on noisy_test": 0.5
    }  # fmt: skip
    assert [(row.what, row.count) for row in rows["kmeans"]] == [
        ("tones-small-k8, K = 8", 2),
        ("tones-small-k4, K = 4", 2),
    ]
    counted = {}
    for row in rows["trials"]:
        counted[row.what] = counted.get(row.what, 0) + row.count
    assert counted == told.trials


def test_bytes_of_features_follow_from_hours(told):
    row = next(row for row in told.cost.rows if row.what == "small on tones")
    assert row.bytes == 2.0 * 3600 * 50 * 2 * 192 * 2


def test_the_total_is_the_sum_and_the_price_is_of_it(told):
    total = told.cost.total
    assert total.gpu_hours == pytest.approx(sum(row.gpu_hours for row in told.cost.rows))
    assert total.dollars == pytest.approx(2.5 * total.gpu_hours + 0.023 * total.bytes / 1e9)
    assert json.loads(json.dumps(told.to_json()))["cost"]["total"]["dollars"] == total.dollars
    assert ("assumed prices", "$2.5 a GPU hour, $0.023 a GB and month, kept for 1 months") in told.lines()


def test_a_dearer_hour_is_dearer(told, tmp_path):
    dear = estimate(tmp_path, text_of(), price_per_gpu_hour=5.0, price_per_gb_month=0.0)
    assert dear.cost.total.dollars == pytest.approx(5.0 * told.cost.total.gpu_hours)


def test_a_corpus_of_unknown_size_is_told(tmp_path):
    with pytest.raises(SettingsError, match="corpora.test is not there yet; say expected = { hours"):
        estimate(tmp_path, text_of({"tones": 2.0}))


def test_a_task_of_unknown_classes_is_told(tmp_path):
    with pytest.raises(SettingsError, match="tasks.asr: say expected = { vocabulary"):
        estimate(tmp_path, text_of().replace("expected = { vocabulary = 9, tested_hours = 0.5 }\n", ""))


@pytest.mark.parametrize("value", ["hours = 0", "hours = true", "hour = 2.0"])
def test_what_is_expected_is_numbers_that_are_known(value):
    with pytest.raises(SettingsError, match="corpora.tones: expected holds numbers above 0 called hours or utterance"):
        planned(text_of().replace("hours = 2.0", value))


def test_what_is_expected_changes_no_key():
    before, after = (planned(text)[0] for text in (text_of(), text_of({**HOURS, "tones": 7.0})))
    assert [trial.key for trial in before] == [trial.key for trial in after]


def test_a_manifest_that_is_there_counts_in_place_of_what_is_expected(tmp_path):
    write_tones(tmp_path)
    text = text_of()
    (tmp_path / "plan.toml").write_text(text)
    config = config_of(tmp_path / "plan.toml", tmp_path).located()
    from pipeline.store.storage import open_store
    from pipeline.study.making import make_parts

    _, parts = plan_trials(read_named(str(tmp_path / "plan.toml"))[1], config)
    make_parts([parts.manifest("tones")], open_store(config.output))
    rows = {row.what: row.audio_hours for row in estimate_study(config).cost.rows if row.kind == "passes"}
    assert rows["small on tones"] == pytest.approx(24 / 3600, rel=0.01)
    assert rows["small on test"] == 0.5


def test_what_is_left_is_told_by_the_trials_that_are_done(tmp_path):
    (tmp_path / "plan.toml").write_text(text_of())
    config = config_of(tmp_path / "plan.toml", tmp_path)
    trials = unlike(plan_trials(read_named(config.study)[1], config.located())[0])
    for trial in trials:
        if trial.seed == 0:
            ran = {"key": trial.key, "name": trial.name, "seconds": 10.0, "overhead_seconds": 1.0, "starts": 1}
            folder = tmp_path / "study" / "trials" / trial.cell.task.name / trial.key
            folder.mkdir(parents=True)
            (folder / "trial.json").write_text(json.dumps(ran))
    found = estimate_study(config)
    assert (sum(found.left.values()), found.left_seconds) == (10, 100.0)
    assert ("left", "10 trials, 0.0 h, by those that are done") in found.lines()
