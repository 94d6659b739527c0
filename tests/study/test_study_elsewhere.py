"""A study on S3, on Ray, and killed: the same results as in one process on disk."""

import json

import pyarrow.parquet as pq
import pytest
from made_kills import KILLED, in_child
from made_trials import SHORT, config_of, write_tones

from pipeline.store.storage import open_store
from pipeline.study.stage import run_study

OF_THE_RUN = ("seconds", "overhead_seconds", "starts")


@pytest.fixture(scope="module")
def folder(small_encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("short")
    write_tones(root)
    (root / "plan.toml").write_text(SHORT.format(encoder=small_encoder(kind="hubert", stem="group", stable=False)))
    return root


def results(output):
    rows = pq.read_table(open_store(str(output)).open("results.parquet")).to_pylist()
    return [{name: value for name, value in row.items() if name not in OF_THE_RUN} for row in rows]


@pytest.fixture(scope="module")
def expected(folder):
    run_study(config_of(folder / "plan.toml", folder))
    return results(folder / "study")


def test_a_study_killed_in_a_part_and_in_a_trial_ends_with_the_same_results(folder, expected, tmp_path):
    config = config_of(folder / "plan.toml", folder, output=str(tmp_path / "study"))
    in_part = {"point": "after_data_before_commit", "match": "layer_03_k4", "action": "kill"}
    in_training = {"point": "after_step", "match": "step 3", "action": "kill"}
    assert in_child(run_study, config, [in_part]).code == KILLED
    assert in_child(run_study, config, [in_training]).code == KILLED
    report = run_study(config)
    assert (report.trials_done, report.trials_done_now) == (4, 4)
    assert results(tmp_path / "study") == expected
    assert ("trials", "4 of 4 done, 4 of them now") in report.lines()
    store = open_store(str(tmp_path / "study"))
    told = json.loads(store.read("study.json"))["told"]
    assert ["begun more than once", "1 trials"] in told


def test_a_study_on_s3_is_that_on_disk(folder, expected, bucket):
    output = f"{bucket}/studies/short"
    report = run_study(config_of(folder / "plan.toml", folder, output=output))
    assert (report.trials, report.trials_done) == (4, 4)
    assert results(output) == expected
    assert b"<html" in open_store(output).read("index.html")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_trials_side_by_side_on_ray_give_the_same_results(folder, expected, local_ray, tmp_path):
    parts = config_of(folder / "plan.toml", folder, output=str(tmp_path / "study"), max_hours=1e-9)
    run_study(parts)
    report = run_study(parts.but(runner="ray", trials_at_once=2, max_hours=None))
    assert report.trials_done_now == 4
    assert results(tmp_path / "study") == expected


def test_parts_are_made_for_the_tasks_that_are_asked_for_alone(folder, expected, tmp_path):
    more = """
[tasks.sid]
corpus = "noise"
num_steps = 5
warmup_steps = 1

[corpora.noise]
corpus = "noise"
layout = "folder"
"""
    (tmp_path / "plan.toml").write_text((folder / "plan.toml").read_text() + more)
    config = config_of(tmp_path / "plan.toml", folder, output=str(tmp_path / "study"), tasks=("er",), max_hours=1e-9)
    run_study(config)
    made = {path.name.rpartition("-")[0] for path in (tmp_path / "study" / "parts" / "manifests").iterdir()}
    assert made == {"tones"}
