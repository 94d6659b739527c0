"""Build the environment of readers that do not fit beside Strata's own pins: 10 s and 100 MB.

    python tests/export/readers/build.py .venv-readers

It sees the packages of the Python that runs this, behind its own, so that torch is not installed twice.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def main() -> None:
    """Make the folder given, and install ``requirements.txt`` into it."""
    folder = Path(sys.argv[1]).absolute()
    venv.create(folder, with_pip=False, clear=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    # A .pth puts a folder behind site-packages: what is installed here is found first.
    (site / "strata.pth").write_text(sysconfig.get_path("purelib") + "\n")
    requirements = Path(__file__).with_name("requirements.txt")
    command = ["install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"]
    subprocess.run([folder / "bin/python", "-m", "pip", *command, "--target", site, "-r", requirements], check=True)


if __name__ == "__main__":
    main()
