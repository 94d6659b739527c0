"""What needs no torch and no Ray imports neither: --help, --status, settings, and a run with nothing left to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from made_corpus import write_corpus

from pipeline.cli import JOBS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "ray", "transformers", "faiss")
IMPORTED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in %r if name in sys.modules]))
"""
JOB = """
import atexit, json, os, runpy, sys
def tell():
    with open(os.environ["TOLD"], "w") as file:
        json.dump([name for name in %r if name in sys.modules], file)
atexit.register(tell)
sys.argv[0] = os.environ["JOB"]
runpy.run_path(os.environ["JOB"], run_name="__main__")
"""
STAGES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "pipeline").rglob("stage.py")
)
SETTINGS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "pipeline").rglob("settings.py")
)


def modules_after(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code % (HEAVY,), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_there_are_stages_and_settings_to_look_at():
    assert len(STAGES) >= 10
    assert len(SETTINGS) >= 4


@pytest.mark.parametrize("name", ["pipeline.cli", "pipeline.run", "pipeline.status", *STAGES, *SETTINGS])
def test_importing_leaves_heavy_libraries_out(name):
    assert modules_after(IMPORTED, name) == []


def job(name, *flags, told):
    """Run a job as people do; gives what it printed, the heavy modules it imported and the processes it started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOLD": str(told), "JOB": str(ROOT / "jobs" / f"{name}.py")}
    before = ray_processes()
    done = subprocess.run(
        [sys.executable, "-c", JOB % (HEAVY,), *map(str, flags)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(told.read_text()), ray_processes() - before


def ray_processes():
    """Find processes of a Ray that was started with our environment: its folder is ours alone."""
    folder, found = os.environ["RAY_TMPDIR"], set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            found.add(process.info["pid"])
    return found


@pytest.mark.parametrize("name", sorted(JOBS))
def test_help_is_given_without_heavy_libraries(tmp_path, name):
    out, modules, started = job(name, "--help", told=tmp_path / "told")
    assert "usage" in out
    assert modules == []
    assert started == set()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_encoder):
    """A run of the whole pipeline that has nothing left to do: its flags, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    flags = ["--corpus", write_corpus(folder / "audio", num_files=6), "--layout", "folder", "--output", folder / "run"]
    flags += ["--encoder", small_encoder(stem="group", stable=False), "--layers", 1, 3, "--num-clusters", 4]
    flags += ["--max-iterations", 3]
    _, modules, started = job("run_pipeline", *flags, told=folder / "told")
    # It encodes, and does so here: torch and transformers, and no Ray.
    assert {"torch", "transformers"} <= set(modules)
    assert "ray" not in modules
    assert started == set()
    return flags, folder / "run"


def test_status_is_told_without_heavy_libraries(finished, tmp_path):
    out, modules, started = job("run_pipeline", "--output", finished[1], "--status", told=tmp_path / "told")
    assert [json.loads(line)["pending"] for line in out.splitlines() if line.startswith("{")] == [0] * 4
    assert (modules, started) == ([], set())


def test_a_run_with_nothing_to_do_imports_no_torch_and_touches_no_file(finished, tmp_path):
    flags, output = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    out, modules, started = job("run_pipeline", *flags, told=tmp_path / "told")
    assert [stage["units_done_now"] for stage in json.loads(out.splitlines()[-1])["stages"]] == [0] * 4
    assert (modules, started) == ([], set())
    data = [path for path in before if not any(part.startswith("_") for part in path.relative_to(output).parts[1:])]
    cards = [path for path in before if "_cards" in path.parts]
    assert len(data) > 6
    assert len(cards) > 4
    kept = [path for path in [*data, *cards] if path.name != "report.json"]
    assert {path: path.stat().st_mtime_ns for path in kept} == {path: before[path] for path in kept}


def test_the_last_runs_report_stays_where_nothing_was_done(finished):
    report = json.loads((finished[1] / "features" / "_report.json").read_text())
    assert report["units_done_now"] == report["units"] > 0
