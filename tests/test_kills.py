"""Promises R2, R4 and R5 on Ray: SIGKILL of workers and of a driver, two drivers, a driver that was stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from made_corpus import data_bytes, write_corpus

from pipeline.faults import VARIABLE
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    """A finished run whose tokens are the truth; tests below make them again under fire."""
    folder = tmp_path_factory.mktemp("base")
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(write_corpus(folder / "audio", num_files=24)),
            layout="folder",
            output=str(folder),
            encoder=str(encoder),
            layers=(1, 3),
            num_clusters=8,
            max_iterations=4,
            shard_minutes=0.05,
            runner="here",
        )
    )
    return folder, encoder


def start(base, output, faults=()):
    """Start the tokens job of the base run in a process of its own, on a Ray of its own."""
    folder, encoder = base
    command = [
        *(sys.executable, str(ROOT / "jobs" / "tokenize_corpus.py"), "--ray-address", "local"),
        *("--manifest", folder / "manifest", "--codebooks", folder / "codebooks"),
        *("--encoder", encoder, "--output", output, "--num-workers", 1, "--runner", "ray"),
    ]
    environment = {**os.environ, VARIABLE: json.dumps(list(faults)), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_fit(base, output, faults=()):
    """Start the K-means job of the base run in a process of its own."""
    command = [
        *(sys.executable, str(ROOT / "jobs" / "fit_kmeans.py"), "--ray-address", "local"),
        *("--features", base[0] / "features", "--output", output, "--num-clusters", 8, "--max-iterations", 4),
        *("--runner", "ray"),
    ]
    environment = {**os.environ, VARIABLE: json.dumps(list(faults)), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    out, _ = process.communicate(timeout=240)
    return process.returncode, out


def check(base, output):
    folder, _ = base
    assert data_bytes(output) == data_bytes(folder / "tokens")
    found = verify_dataset(VerifyDatasetConfig(dataset=str(output)))
    assert (found.rows, found.rejects) == (24, 0)


def commits(output):
    return {path.stem for path in (Path(output) / "_commits").glob("*.json")}


def wait_for_commits(output, process, count):
    deadline = time.monotonic() + 120
    while len(commits(output)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tree(process):
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


# Nightly: test_kills_here.py kills at these points, test_executor.py kills an encoder of Ray.
@pytest.mark.nightly
def test_workers_killed_at_named_points_cost_time_only(base, tmp_path):
    points = (
        "load",
        "encode",
        "after_announce_before_data",
        "after_data_before_commit",
        "after_commit_before_publish",
        "after_publish",
    )
    faults = [{"point": name, "action": "kill", "once": str(tmp_path / name)} for name in points]
    code, out = finish(start(base, tmp_path / "tokens", faults))
    assert code == 0, out
    assert [name for name in points if not (tmp_path / name).exists()] == []
    check(base, tmp_path / "tokens")


def test_a_driver_killed_after_a_commit_goes_on_where_it_was(base, tmp_path):
    log = {"point": "load", "action": "log", "path": str(tmp_path / "loads")}
    code, out = finish(start(base, tmp_path / "tokens", [{"point": "driver_after_commit", "action": "kill"}]))
    assert code == -signal.SIGKILL, out
    done = commits(tmp_path / "tokens")
    assert done
    code, out = finish(start(base, tmp_path / "tokens", [log]))
    assert code == 0, out
    loaded = {line.split()[1] for line in (tmp_path / "loads").read_text().splitlines()}
    # Workers of the killed driver may have committed more, before they saw that it was gone.
    assert loaded <= commits(tmp_path / "tokens") - done
    assert loaded
    check(base, tmp_path / "tokens")


@pytest.mark.nightly
def test_a_driver_killed_at_a_random_moment_is_run_again_to_the_same_bytes(base, tmp_path):
    moment = random.Random(time.time_ns())
    process = start(base, tmp_path / "tokens")
    wait_for_commits(tmp_path / "tokens", process, moment.randint(1, 8))
    time.sleep(moment.uniform(0, 0.3))
    process.kill()
    finish(process)
    code, out = finish(start(base, tmp_path / "tokens"))
    assert code == 0, out
    check(base, tmp_path / "tokens")


def test_a_kmeans_worker_killed_in_a_step_is_replaced_and_changes_no_byte(base, tmp_path):
    fault = {"point": "kmeans_step", "action": "kill", "once": str(tmp_path / "killed")}
    code, out = finish(start_fit(base, tmp_path / "codebooks", [fault]))
    assert code == 0, out
    assert (tmp_path / "killed").exists()
    assert data_bytes(tmp_path / "codebooks") == data_bytes(base[0] / "codebooks")


# Nightly: test_two_drivers.py has two drivers, work/test_units.py a zombie.
@pytest.mark.nightly
def test_two_drivers_at_once_one_of_them_a_zombie_write_every_row_once(base, tmp_path):
    zombie = start(base, tmp_path / "tokens")
    wait_for_commits(tmp_path / "tokens", zombie, 2)
    stopped = tree(zombie)
    for process in stopped:
        process.suspend()
    other = start(base, tmp_path / "tokens")
    code, out = finish(other)
    assert code == 0, out
    check(base, tmp_path / "tokens")
    for process in stopped:
        process.resume()
    code, out = finish(zombie)
    assert code == 0, out
    check(base, tmp_path / "tokens")


@pytest.mark.nightly
def test_two_drivers_side_by_side_write_every_row_once(base, tmp_path):
    both = [start(base, tmp_path / "tokens") for _ in range(2)]
    results = [finish(process) for process in both]
    assert [code for code, _ in results] == [0, 0], results
    check(base, tmp_path / "tokens")
