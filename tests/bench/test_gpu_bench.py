"""bench/gpu.py on a CPU, with nothing but torch, transformers, numpy and pyarrow to be imported."""

import contextlib
import importlib.metadata
import json
import re
import subprocess
import sys

import pytest

from bench.measuring import ROOT, environment

SMALL = (
    *("--device", "cpu", "--rounds", "1", "--encoders", "hubert-small", "wavlm-small", "--seconds", "1"),
    *("--batch", "2", "--num-clusters", "20", "--dim", "16", "--rows", "500", "--frames", "500"),
    *("--presets", "vocoder_small", "--crops", "1", "--agreement-seconds", "1", "--dtypes", "float32"),
)
# The modules that may be imported stand in the first argument.
BARE = """
import importlib.machinery, json, runpy, sys
needed = set(json.loads(sys.argv.pop(1)))
class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        place = (found.origin or "") if found else ""
        return None if "site-packages" in place and name.partition(".")[0] not in needed else found
sys.meta_path = [Only if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
runpy.run_module("bench.gpu", run_name="__main__", alter_sys=True)
print("ray" in sys.modules, "scipy" in sys.modules)
"""


def modules_of(*names: str) -> list[str]:
    """Give the top-level modules of packages and of all that they need."""
    wanted, open_ones = set(), list(names)
    while open_ones:
        name = re.sub("[-_.]+", "-", open_ones.pop()).lower()
        if name in wanted:
            continue
        wanted.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            needs = [each for each in importlib.metadata.requires(name) or [] if "extra ==" not in each]
            open_ones += [re.split(r"[^\w.-]", each)[0] for each in needs]
    owners = importlib.metadata.packages_distributions()
    return [top for top, dists in owners.items() if {re.sub("[-_.]+", "-", each).lower() for each in dists} & wanted]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [
        sys.executable,
        "-c",
        BARE,
        json.dumps(modules_of("torch", "transformers", "numpy", "pyarrow")),
        *SMALL,
        "--json",
        str(path),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(1), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(path.read_text())["lines"]


def test_it_needs_neither_ray_nor_scipy(run):
    assert run[0].splitlines()[-1] == "False False"


def test_every_part_gives_a_value_or_says_why_not(run):
    _, lines = run
    assert {line["part"] for line in lines} == {
        *("peak", "encoder", "quantise", "K-means", "fuser", "vocoder", "agreement"),
    }
    for line in lines:
        assert (line["value"] is not None and line["value"] > 0) != bool(line["note"] and line["value"] is None), line


def test_encoders_are_timed_beside_transformers(run):
    encoders = {line["what"]: line for line in run[1] if line["part"] == "encoder"}
    assert set(encoders) == {
        f"{name}-small, {way}" for name in ("hubert", "wavlm") for way in ("Strata", "eager", "sdpa")
    }
    # transformers has no fused attention for WavLM; everything else must have run.
    assert [what for what, line in encoders.items() if line["value"] is None] == ["wavlm-small, sdpa"]
    assert all(line["share"] > 0 for line in encoders.values() if line["value"] is not None)


def test_the_cpu_agrees_with_itself_and_sums_of_kmeans_ask_for_scipy(run):
    assert [line["value"] for line in run[1] if line["part"] == "agreement"] == [1.0, 1.0, 1.0]
    (step,) = [line for line in run[1] if line["part"] == "K-means"]
    assert step["value"] is None
    assert "scipy" in step["note"]


def test_the_table_shows_each_line(run):
    out, lines = run
    for line in lines:
        assert any(line["part"] in row and line["what"] in row for row in out.splitlines() if row.startswith("|"))
