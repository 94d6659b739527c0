"""Real submissions: ``ray start --head`` with token authentication, ``ray job submit``, nothing without a token."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from made_corpus import write_corpus
from made_enhancement import write_spoken_pairs
from made_speech import shards
from made_tasks import job_flags, task_config, write_task_corpus
from made_tts import write_tts

from pipeline.enhancement.settings import EnhanceConfig
from pipeline.enhancement.stage import enhance
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.stage import speak

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")

pytestmark = pytest.mark.ray


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head node of our own with a token of our own; its processes are ended one by one, by id."""
    folder = tmp_path_factory.mktemp("head")
    token = folder / "secrets" / "token"
    gcs, dashboard = free_port(), free_port()
    temp = Path("/tmp") / f"ray-job-test-{os.getpid()}"
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",
    }
    command = [str(ROOT / "infra" / "start_head.sh"), "--block", "--num-cpus=2", f"--temp-dir={temp}"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}"]
    # The local Ray of other tests holds the usual port of the agent that starts jobs.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    server = subprocess.Popen(
        command, env=environment, stdout=(folder / "head.log").open("w"), stderr=subprocess.STDOUT
    )
    try:
        # Where processes join that are not submitted.
        environment["STRATA_TEST_GCS"] = f"127.0.0.1:{gcs}"
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        # Asked politely, `ray start --block` takes half a minute.
        server.kill()
        server.wait(20)
        for process in family:
            if process.is_running():
                process.kill()
        shutil.rmtree(temp, ignore_errors=True)


def status_without_token(address):
    try:
        return urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


def wait_until_up(address):
    deadline = time.monotonic() + 120
    while True:
        try:
            return status_without_token(address)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def submit(command, environment):
    """Submit a job, again while the new head still lacks the agent that starts jobs."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(2)


def test_a_submitted_run_turns_a_folder_into_tokens(head, small_encoder, tmp_path):
    address, environment = head
    assert wait_until_up(address) in (401, 403)
    assert Path(environment["RAY_AUTH_TOKEN_PATH"]).stat().st_mode & 0o777 == 0o600
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    corpus = write_corpus(tmp_path / "audio", num_files=6)
    command = [
        *(RAY, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", sys.executable),
        *("jobs/run_pipeline.py", "--corpus", corpus, "--layout", "folder", "--output", tmp_path / "run"),
        *("--encoder", encoder, "--layers", "1", "3", "--num-clusters", "8", "--shard-minutes", "0.1"),
    ]
    done = submit(command, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [stage["rows"] for stage in report["stages"]] == [6, 6, 16, 6]
    checked = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "verify_dataset.py"), "--dataset", str(tmp_path / "run" / "tokens")],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


WITHOUT_TOKEN = {
    "wrong": ({"RAY_AUTH_TOKEN": "0" * 64}, "RAY_AUTH_MODE=token and a token in RAY_AUTH_TOKEN"),
    "off": ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=disabled and a token in "),
    "none": ({"RAY_AUTH_TOKEN_PATH": "nowhere"}, "RAY_AUTH_MODE=token and no token in nowhere"),
}


@pytest.mark.parametrize("case", [None, *WITHOUT_TOKEN])
def test_a_job_joins_with_the_token_and_says_what_is_amiss_without(head, tmp_path, case):
    address, environment = head
    wait_until_up(address)
    changed, said = WITHOUT_TOKEN[case] if case else ({}, "")
    corpus = write_corpus(tmp_path / "audio", num_files=2)
    flags = ["--corpus", corpus, "--layout", "folder", "--output", tmp_path / "manifest", "--runner", "ray"]
    command = [sys.executable, ROOT / "jobs" / "build_manifest.py", *flags]
    done = subprocess.run(
        [*map(str, command), "--ray-address", environment["STRATA_TEST_GCS"]],
        env={**environment, "PYTHONPATH": str(ROOT), **changed},
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    if not case:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: this process could not join Ray (RAY_ADDRESS names a cluster): ")
    assert said in last


def test_a_submitted_task_is_trained_by_two_workers(head, tmp_path):
    address, environment = head
    wait_until_up(address)
    write_task_corpus(tmp_path, 20)
    config = task_config(
        tmp_path, tmp_path / "out", "er", runner="auto", num_workers=2, batches_per_step=2, num_steps=3
    )
    command = [RAY, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", sys.executable]
    done = submit([*command, "jobs/train_task.py", *job_flags(config)], environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    report = json.loads((tmp_path / "out" / "_report.json").read_text())
    assert (report["num_steps"], report["workers"]) == (3, "2 worker(s) of 1 thread(s)")
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).faults == []


@pytest.mark.nightly
def test_submitted_jobs_enhance_and_speak_what_this_process_does(head, tmp_path):
    address, environment = head
    wait_until_up(address)
    command = [RAY, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", sys.executable]
    pairs, texts = tmp_path / "pairs", tmp_path / "texts"
    write_spoken_pairs(pairs)
    labels = write_tts(texts)
    (texts / "lines.txt").write_text("".join(f"{told['text']}\n" for told in labels.values()))
    noisy = {"tokens": f"{pairs}/noisy/tokens", "bundle": f"{pairs}/bundle"}
    said = {"bundle": str(texts), "text_file": f"{texts}/lines.txt", "temperature": 0.0, "texts_per_shard": 3}
    for stage, of, settings in ((enhance, EnhanceConfig, noisy), (speak, SpeakConfig, said)):
        output = tmp_path / stage.__name__
        flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        asked = [*command, f"jobs/{stage.__name__}.py", *flags, "--output", output, "--runner", "ray"]
        done = submit(asked, environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "succeeded" in done.stdout
        stage(of.of(**settings, output=f"{output}-here", runner="here"))
        assert shards(output) == shards(Path(f"{output}-here"))
