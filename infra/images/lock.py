"""Write the packages of an image, each with its version and the SHA-256 of its wheel.

    python infra/images/lock.py cuda
    python infra/images/lock.py cpu --torch-wheels WHERE
    python infra/images/lock.py launch

launch is what the head of `ray up` has besides the packages of the CPU image, to ask a cloud for nodes.

Versions are those of constraints.txt; what it does not name comes only with CUDA (nvidia-*, triton) and follows from
the release of torch or faiss-gpu. WHERE is a folder or the address of the page that lists PyTorch's CPU wheels, as the
installation page of PyTorch prints it: the wheel of torch for Linux in the usual index is the one for CUDA.
Python 3.11 on Linux x86-64 writes the files, since they hold the wheels of that platform alone.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
EXTRAS = {"cpu": ("cpu", "evaluate", "train", "vad"), "cuda": ("gpu", "evaluate", "train", "vad")}
LAUNCH = ("boto3", "google-api-python-client")
HEADER = """\
# Packages of the {target} image: Python 3.11, Linux x86-64. Written by infra/images/lock.py, not by hand.
# Installed with pip install --require-hashes --no-deps.
"""


def wanted(target: str) -> list[str]:
    """Give the requirements of an image, as pyproject.toml has them."""
    if target == "launch":
        return list(LAUNCH)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(requirement for extra in EXTRAS[target] for requirement in extras[extra])]


def pinned(name: str) -> str:
    """Give the release of a package in constraints.txt."""
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"constraints.txt does not pin {name}")
    return found[1]


def resolve(target: str, torch_wheels: str | None) -> list[dict[str, Any]]:
    """Ask pip what it would install into an empty environment, and from which wheels."""
    requirements = wanted(target)
    source: list[str] = []
    if torch_wheels is not None:
        source = ["--find-links", torch_wheels]
        requirements.append(f"torch=={pinned('torch')}+cpu")
    # A machine's own settings of pip (mirrors on disk, caps) would write other files than the next machine's.
    ours = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    kept = ("PIP_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in kept}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", *source]
        command += ["--only-binary", ":all:", "-c", str(ROOT / "constraints.txt"), "--report", str(report)]
        done = subprocess.run([*command, *requirements], env={**environment, **ours}, check=False)
        if done.returncode:
            raise SystemExit(f"pip could not resolve the packages of the {target} image; what it said is above")
        installs: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return installs


def entry(install: dict[str, Any]) -> str:
    """Give a package as an entry of a requirements file."""
    name = re.sub(r"[-_.]+", "-", install["metadata"]["name"]).lower()
    version = install["metadata"]["version"]
    digest = install["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{name}=={version} \\\n    --hash=sha256:{digest}"


def main() -> None:
    """Write the requirements file of one image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=(*sorted(EXTRAS), "launch"))
    parser.add_argument("--torch-wheels", help="where PyTorch's CPU wheels are listed; needed for cpu")
    parser.add_argument("--output", type=Path, help="file to write; default: requirements-TARGET.txt beside this one")
    flags = parser.parse_args()
    if (sys.version_info[:2], platform.system(), platform.machine()) != ((3, 11), "Linux", "x86_64"):
        parser.error("the files are for Python 3.11 on Linux x86-64: run this there")
    if (flags.target == "cpu") != (flags.torch_wheels is not None):
        parser.error("--torch-wheels is for cpu, which needs it: the usual index has torch for CUDA alone")
    entries = sorted(entry(install) for install in resolve(flags.target, flags.torch_wheels))
    if flags.target == "launch":
        there = (FOLDER / "requirements-cpu.txt").read_text()
        entries = [one for one in entries if f"\n{one.partition('==')[0]}==" not in there]
    output = flags.output or FOLDER / f"requirements-{flags.target}.txt"
    output.write_text(HEADER.format(target=flags.target) + "".join(f"{one}\n" for one in entries))
    print(f"{output.name}: {len(entries)} packages")


if __name__ == "__main__":
    main()
