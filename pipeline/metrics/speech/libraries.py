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


def library(name: str, *, who: str, weights: str | None = None, install: str = WITH_EXTRA) -> Library:
    """Say which release of a library is installed.

    Args:
        name: Distribution, as pip knows it.
        who: Who needs it, for the message, as ``the judge pitch``.
        weights: File of its network, as in ``weights_path``.
        install: Command that installs it.

    Raises:
        SettingsError: It is not installed, or its release does not ship the weights.
    """
    hashed = None if weights is None else _sha256(weights_path(name, weights, who=who, install=install))
    return Library(name=name, version=_version(name, who, install), weights_sha256=hashed)


def weights_path(name: str, file: str, *, who: str, install: str = WITH_EXTRA) -> Path:
    """Find a file that a library ships, without importing the library.

    Args:
        name: Distribution.
        file: Path inside site-packages, as ``speechmos/dnsmos_models/sig_bak_ovr.onnx``.
        who: Who needs it, for the message, as ``the judge pitch``.
        install: Command that installs it.

    Raises:
        SettingsError: The library is not installed, or its release does not ship the file.
    """
    version = _version(name, who, install)
    path = Path(str(distribution(name).locate_file(file)))
    if not path.is_file():
        raise SettingsError(
            f"{who} needs {file}, which {name} {version} does not ship; nothing is downloaded, so install "
            f"the release that does: {install}"
        )
    return path


def _version(name: str, who: str, install: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError as error:
        raise SettingsError(f"{who} needs {name}; install it with: {install}") from error


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
