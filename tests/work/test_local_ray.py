"""What a Ray that is started here gets of this machine: enough open files or a sentence, and a private token."""

import json
import os
import resource
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from made_corpus import data_bytes, write_corpus

from pipeline.work.local_ray import files_needed
from pipeline.work.on_ray import last_words

ROOT = Path(__file__).parents[2]
CPUS = len(os.sched_getaffinity(0))
KEEP = "from pipeline.work.local_ray import keep_token_private as keep; keep()"
CHECK = "from pipeline.work.local_ray import check_open_files as check; check(2); import resource as r; "
CHECK += "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
START = """
import json, os, sys
from pipeline.work.on_ray import OnRay
from pathlib import Path
runner = OnRay()
cpus = int(sum(node.cpus for node in runner.nodes()))
found = sorted(runner.tasks(lambda _, number: number, [(n,) for n in range(20)], workers=cpus))
token = Path.home() / ".ray" / "auth_token"
print(json.dumps([found, oct(token.stat().st_mode & 0o777), len(token.read_text())]))
"""


def run(code, *, home, files=None, **environment):
    """Run code in a process whose home is a folder, with the usual umask and a limit of open files, soft and hard."""

    def prepare(limits):
        os.umask(0o022)
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", code] if isinstance(code, str) else code,
        env={**given, "HOME": str(home), "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=partial(prepare, files),
        capture_output=True,
        text=True,
        timeout=280,
    )


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_that_is_made_here_is_its_owners_alone(tmp_path):
    assert run(KEEP, home=tmp_path).returncode == 0
    token = tmp_path / ".ray" / "auth_token"
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    held = token.read_text()
    assert len(held) == 64
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]
    assert run(KEEP, home=tmp_path).returncode == 0
    assert token.read_text() == held


def test_a_token_that_is_there_is_taken_from_all_others_and_stays_the_same(tmp_path):
    for name in ("auth_token", "named"):
        (tmp_path / ".ray").mkdir(exist_ok=True)
        (tmp_path / ".ray" / name).write_text("t" * 64)
        (tmp_path / ".ray" / name).chmod(0o644)
    run(KEEP, home=tmp_path)
    run(KEEP, home=tmp_path, RAY_AUTH_TOKEN_PATH=str(tmp_path / ".ray" / "named"))
    for name in ("auth_token", "named"):
        assert mode(tmp_path / ".ray" / name) == 0o600
        assert (tmp_path / ".ray" / name).read_text() == "t" * 64


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "t" * 64}])
def test_no_token_is_made_where_ray_needs_none(tmp_path, environment):
    assert run(KEEP, home=tmp_path, **environment).returncode == 0
    assert not (tmp_path / ".ray").exists()


def test_a_limit_of_open_files_is_raised_as_far_as_needed_and_no_other_is_touched(tmp_path):
    needed = files_needed(2)
    assert run(CHECK, home=tmp_path, files=(64, 4096)).stdout.split() == [str(needed)]
    assert run(CHECK, home=tmp_path, files=(1024, 4096)).stdout.split() == ["1024"]
    refused = run(CHECK, home=tmp_path, files=(64, needed - 1))
    assert f"may have {needed - 1} files open here (ulimit -n), and Ray on 2 CPUs needs {needed}" in refused.stderr


def job(corpus, output, runner):
    flags = f"--corpus {corpus} --layout folder --output {output} --runner {runner}"
    return [sys.executable, str(ROOT / "jobs" / "build_manifest.py"), *flags.split()]


def test_with_few_open_files_ray_is_refused_before_it_starts_and_this_process_does_the_work(tmp_path):
    corpus = write_corpus(tmp_path / "audio", num_files=4)
    began = time.monotonic()
    refused = run(job(corpus, tmp_path / "ray", "ray"), home=tmp_path, files=(64, 64))
    assert time.monotonic() - began < 30
    assert refused.returncode == 2
    assert "error: a process may have 64 files open here (ulimit -n)" in refused.stderr
    assert "--runner here" in refused.stderr
    assert "Traceback" not in refused.stderr
    here = run(job(corpus, tmp_path / "here", "here"), home=tmp_path, files=(64, 64))
    assert here.returncode == 0, here.stderr
    assert json.loads(here.stdout.splitlines()[-1])["rows"] == 4
    # What the refused run has left is gone on with.
    assert run(job(corpus, tmp_path / "ray", "here"), home=tmp_path).returncode == 0
    assert data_bytes(tmp_path / "ray") == data_bytes(tmp_path / "here")


@pytest.mark.ray
def test_ray_starts_with_the_least_number_of_open_files_and_a_private_token(tmp_path):
    least = files_needed(CPUS)
    ended = run(START, home=tmp_path, files=(least, least), RAY_ADDRESS="local")
    assert ended.returncode == 0, ended.stderr[-2_000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == [list(range(20)), "0o600", 64]


def test_actors_that_end_before_they_begin_are_told_of_with_the_token(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    ended = "The actor died.\n\nThe actor never ran - it was cancelled before it started running.\n"
    said = "The actor never ran - it was cancelled before it started running. Does the cluster have a token? "
    said += f"This process has RAY_AUTH_MODE=token and no token in {tmp_path}/token; give both the same, or none"
    assert last_words(RuntimeError(ended)) == said
    assert last_words(RuntimeError("The node died.\n")) == "The node died."
