"""Exports on Ray: SIGKILL of workers and of the driver, other numbers of workers, other libraries."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_export import config_of, tree
from made_export_kills import KILLED, export_in_child
from made_kills import one_after_the_other
from made_tokens import write_corpus_of_tones

from pipeline.errors import PlanMismatchError
from pipeline.export.stage import export_tokens
from pipeline.faults import VARIABLE
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

ROOT = Path(__file__).parents[2]
SETTINGS = {"formats": ("megatron",), "order": "shuffled", "shard_ids": 150, "valid_fraction": 0.2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + number % 3 / 10 for number in range(72)], per_shard=12)
    return folder


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """What an export is that nothing has disturbed, made without Ray."""
    output = tmp_path_factory.mktemp("whole") / "export"
    export_tokens(config_of(corpus, output, **SETTINGS))
    return tree(output)


def run_job(corpus, output, faults=()):
    """Run the job in a process of its own, on a Ray of its own."""
    command = [
        *(sys.executable, ROOT / "jobs" / "export_tokens.py", "--runner", "ray", "--ray-address", "local"),
        *("--num-workers", 1),
        *("--tokens", corpus / "tokens", "--manifest", corpus / "manifest", "--output", output),
        *("--formats", *SETTINGS["formats"], "--order", SETTINGS["order"]),
        *("--shard-ids", SETTINGS["shard_ids"], "--valid-fraction", SETTINGS["valid_fraction"]),
    ]
    environment = {**os.environ, VARIABLE: json.dumps(list(faults)), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.ray
def test_a_killed_worker_costs_time_only_and_a_killed_driver_goes_on_where_it_was(corpus, whole, tmp_path):
    output, marker = tmp_path / "export", tmp_path / "worker"
    worker = {"point": "after_data_before_commit", "match": "shard-00002", "action": "kill", "once": str(marker)}
    driver = {"point": "driver_after_commit", "match": "group-00000", "action": "kill"}
    killed = run_job(corpus, output, [worker, driver])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert marker.exists()
    # The worker died, and its unit was made all the same before the driver died in a later pass.
    assert (output / "sequences" / "part-000" / "_SUCCESS").exists()
    assert not (output / "megatron").exists()
    assert {name: whole.get(name) for name in tree(output)} == tree(output)
    log = tmp_path / "log"
    again = run_job(corpus, output, [{"point": "after_announce_before_data", "action": "log", "path": str(log)}])
    assert again.returncode == 0, again.stderr
    made = sorted(line.split()[1] for line in log.read_text().splitlines())
    assert made == ["train-00000", "train-00001", "valid-00000"]
    assert tree(output) == whole
    assert verify_dataset(VerifyDatasetConfig(dataset=str(output))).rows == 72


def test_other_libraries_than_those_it_was_begun_with_are_refused_unless_any_may_be(corpus, tmp_path):
    fault = {"point": "after_commit_before_publish", "match": "train-00000", "action": "kill"}
    faults = [*one_after_the_other("train-00000"), fault]
    assert export_in_child(config_of(corpus, tmp_path / "export", **SETTINGS), faults)[0] == KILLED
    numerics = tmp_path / "export" / "megatron" / "part-000" / "_numerics.json"
    begun = json.loads(numerics.read_text())
    numerics.write_text(json.dumps(begun | {"pyarrow": "1.2.3"}))
    with pytest.raises(PlanMismatchError, match="pyarrow: '1.2.3' before, .* --numerics any"):
        export_tokens(config_of(corpus, tmp_path / "export", **SETTINGS))
    export_tokens(config_of(corpus, tmp_path / "export", numerics="any", **SETTINGS))
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "export"))).rows == 72
