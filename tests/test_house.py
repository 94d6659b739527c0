"""The rules of the house, and that each would notice who breaks it."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CODE = ("pipeline", "jobs", "tests", "bench", "examples")
JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
HEAVY = ("ray", "ray.data", "torch", "transformers", "faiss", "s3fs", "soundfile", "soxr", "pyarrow.parquet", "tyro")

LINT = "from importlinter.cli import lint_imports_command as lint; lint()"
IMPORT_ALL = """
import importlib, json, logging, os, signal, sys, threading
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
def state():
    root = logging.getLogger()
    return [dict(os.environ), root.level, len(root.handlers), logging.root.manager.disable,
            str(signal.getsignal(signal.SIGTERM)), threading.active_count(), os.getcwd()]
before = state()
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
    if state() != before:
        sys.exit(f"importing {name} changed the process")
"""


def code_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def modules():
    files = code_files("pipeline")
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    return sorted(name.removesuffix(".__init__") for name in names)


def long_functions(source, most=60):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    return [node.name for node in found if node.end_lineno - node.lineno + 1 > most]


def tracked_files():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def missing(document, text):
    """Give the paths of ours and the links that a document names and that are not there; NAME stands for any name."""
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`|^ {4}[^\n]*$", text, flags=re.MULTILINE | re.DOTALL))
    names = re.findall(r"(?<![\w./-])(?:pipeline|jobs|tests|docs|bench|infra)/[\w./*-]*", code)
    paths = {name.rstrip(".") for name in names if "NAME" not in name}
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    found = {name: list(ROOT.glob(name)) for name in paths}
    found |= {link: [path for path in [document.parent / link] if path.exists()] for link in links if link}
    return sorted(name for name in found if not found[name])


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder):
    command = [sys.executable, "-c", LINT, "--no-logo", "--no-cache"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    broken = re.findall(r"^(.+) BROKEN", run.stdout, flags=re.MULTILINE)
    assert (run.returncode == 0) == (not broken), run.stdout + run.stderr
    return broken


def test_imports_between_floors_are_as_drawn(copy):
    assert lint(copy) == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("errors.py", "import pipeline.store.storage", "Imports point down"),
        ("audio/manifest.py", "from pipeline.kmeans.fit import lloyd", "Imports point down"),
        ("fresh.py", "", "Imports point down"),
        ("store/storage.py", "import pipeline.store.dataset", "Rooms have floors too"),
        ("kmeans/search/centred.py", "import pipeline.kmeans.search.tracking", "No circles"),
        ("features/encoders/spectrum.py", "import pipeline.features.passes.windows", "No circles"),
        ("features/samples/hashing.py", "import ray", "Ray stands behind the runner"),
        ("kmeans/fresh.py", "from ray.data import Dataset", "Ray stands behind the runner"),
        ("tokens/makers.py", "import ray", "Ray stands behind the runner"),
        ("tokens/stage.py", "import ray", "Ray stands behind the runner"),
        ("work/watching.py", "from pipeline.work.ray_metrics import RayMeter", "Ray stands behind the runner"),
        ("tokens/waveform_tokenizer.py", "from pipeline.work.joining import connect", "Ray stands behind the runner"),
        (
            "tokens/waveform_tokenizer.py",
            "from pipeline.kmeans.fit.stage import fit_kmeans",
            "Mathematics knows no stage",
        ),
        ("tokens/makers.py", "from pipeline.kmeans.fit.stage import fit_kmeans", "Mathematics knows no stage"),
        ("cli.py", "import jobs.fit_kmeans", "The library knows no jobs"),
    ],
)
def test_a_wrong_import_breaks_its_contract(copy, file, line, contract):
    with (copy / "pipeline" / file).open("a") as module:
        module.write(f"\n{line}\n")
    assert contract in lint(copy)


def test_files_have_at_most_400_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in code_files(*CODE)}
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}


def test_functions_have_at_most_60_lines():
    body = "    x = 1\n" * 60
    assert long_functions(f"class A:\n  def f(self):\n{body}") == ["f"]
    found = {str(path): long_functions(path.read_text()) for path in code_files(*CODE)}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_module_is_a_junk_drawer():
    files = code_files(*CODE)
    assert [str(path) for path in files if JUNK_DRAWERS & {path.stem, path.parent.name}] == []


def test_jobs_are_title_pages():
    for path in code_files("jobs"):
        source = path.read_text()
        tree = ast.parse(source)
        text = ast.get_docstring(tree) or ""
        assert len(source.splitlines()) <= 40, path
        assert f"python jobs/{path.name}" in text, path
        assert "ray job submit" in text, path
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)], path


def test_every_job_is_a_word_of_the_console_script_and_hides_no_standard_module():
    from pipeline.cli import JOBS

    stems = {path.stem for path in code_files("jobs")}
    assert stems == set(JOBS)
    assert stems & sys.stdlib_module_names == set()


def test_the_wheel_holds_every_package():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in code_files("pipeline")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) - {"pipeline.presets"} == folders


def import_all(names, heavy, root=ROOT):
    command = [sys.executable, "-c", IMPORT_ALL, json.dumps(heavy), json.dumps(names)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_importing_the_package_changes_nothing_in_the_process():
    run = import_all(modules(), HEAVY)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "line", ["import os; os.environ['OMP_NUM_THREADS'] = '7'", "import logging; logging.basicConfig(level=10)"]
)
def test_a_module_that_works_at_import_is_noticed(tmp_path, line):
    (tmp_path / "loud.py").write_text(line)
    assert "importing loud changed the process" in import_all(["loud"], [], tmp_path).stderr


def test_code_is_ascii():
    kinds = {".py", ".toml", ".yaml", ".yml", ".sh", ".txt", ""}
    files = [path for path in tracked_files() if path.suffix in kinds]
    assert len(files) > 30
    assert [str(path) for path in files if not path.read_bytes().isascii()] == []


def test_tracked_files_name_no_machine_and_leave_nothing_for_later():
    # Spelt in pieces, so that this file does not hold what it looks for.
    folder = re.compile(r"(?<![\w.~$}])/(?:wor" + r"k|roo" + r"t|hom" + r"e/\w+|User" + r"s/\w+)/")
    later = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert folder.search("see /wor" + "k/main")
    # Pictures of a page are letters by chance: they may spell anything.
    picture = re.compile(r"data:image/png;base64,[\w+/=]+")
    texts = {path: picture.sub("", path.read_text(errors="replace")) for path in tracked_files()}
    assert [str(path) for path, text in texts.items() if folder.search(text) or later.search(text)] == []


def test_documents_name_files_that_are_there():
    text = "`pipeline/gone.py` and\n\n    python jobs/gone.py\n\n[a](gone.md) `jobs/NAME.py` `docs/*.md` `tests/`"
    assert missing(ROOT / "README.md", text) == ["gone.md", "jobs/gone.py", "pipeline/gone.py"]
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pipeline/assets/*/*.md")]
    assert len(documents) > 20
    found = {str(path.relative_to(ROOT)): missing(path, path.read_text()) for path in documents}
    assert {name: names for name, names in found.items() if names} == {}


def test_the_first_page_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_no_merge_is_left_half_done():
    marks = re.compile(r"^(?:<{7} |>{7} |={7}$)", flags=re.MULTILINE)
    assert marks.search("a\n" + "<" * 7 + " HEAD\nb")
    assert [str(path) for path in tracked_files() if marks.search(path.read_text(errors="replace"))] == []


def test_test_files_have_names_of_their_own_and_make_no_package():
    files = code_files("tests")
    assert [name for name, count in Counter(path.name for path in files).items() if count > 1] == []
    assert "__init__.py" not in {path.name for path in files}


def test_every_requirement_is_pinned_to_a_release_it_allows():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): pin for name, pin in (line.split("==") for line in lines)}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for found in extras.values() for r in found)]
    assert "+" not in "".join(pins.values())
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
