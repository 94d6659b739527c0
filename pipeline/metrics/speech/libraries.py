"""Finds the libraries whose networks judge, and the files of their weights, without downloading anything.

All but one come with the extra ``judges``. Resemblyzer, whose weights judge speakers, cannot: it names packages that
have no wheel and that nothing here imports. It is installed by itself, ``pip install --no-deps resemblyzer==0.1.4``,
and only its weights are read.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import Library

WITH_EXTRA = "pip install 'strata-tokens[judges]'"


def library(name: str, *, judge: str, weights: str | None = None, install: str = WITH_EXTRA) -> Library:
    """Say which release of a library is installed.

    Args:
        name: Distribution, as pip knows it.
        judge: Who needs it, for the message.
        weights: File of its network, as in ``weights_path``.
        install: Command that installs it.

    Raises:
        SettingsError: It is not installed, or its release does not ship the weights.
    """
    hashed = None if weights is None else _sha256(weights_path(name, weights, judge=judge, install=install))
    return Library(name=name, version=_version(name, judge, install), weights_sha256=hashed)


def weights_path(name: str, file: str, *, judge: str, install: str = WITH_EXTRA) -> Path:
    """Find a file that a library ships, without importing the library.

    Args:
        name: Distribution.
        file: Path inside site-packages, as ``speechmos/dnsmos_models/sig_bak_ovr.onnx``.
        judge: Who needs it, for the message.
        install: Command that installs it.

    Raises:
        SettingsError: The library is not installed, or its release does not ship the file.
    """
    version = _version(name, judge, install)
    path = Path(str(distribution(name).locate_file(file)))
    if not path.is_file():
        raise SettingsError(
            f"the judge {judge} needs {file}, which {name} {version} does not ship; nothing is downloaded, so install "
            f"the release that does: {install}"
        )
    return path


def _version(name: str, judge: str, install: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError as error:
        raise SettingsError(f"the judge {judge} needs {name}; install it with: {install}") from error


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
