"""What was run: settings, code version, library versions and estimate, written into the output before work starts."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.redaction import redact_json
from pipeline.store.storage import Store

CONFIG = "_config.json"
ESTIMATE = "_estimate.json"
REPORT = "_report.json"
DISTRIBUTION = "strata-tokens"
LIBRARIES = ("ray", "torch", "transformers", "pyarrow", "numpy", "faiss-cpu", "faiss-gpu", "soundfile", "soxr", "s3fs")


def record_settings(store: Store, config: Any) -> None:
    """Write ``_config.json`` of a run; of several runs on one folder, the last one's.

    Args:
        store: The output folder.
        config: The stage's config dataclass; secrets in it are hidden.
    """
    record = {"settings": redact_json(asdict(config)), "python": platform.python_version(), "versions": versions()}
    store.write(CONFIG, json.dumps(record, sort_keys=True, indent=1).encode())


def record_report(store: Store, report: Mapping[str, Any]) -> None:
    """Write ``_report.json`` beside the data; a run with nothing left to do leaves that of the one that did it.

    Args:
        store: The output folder.
        report: Plain JSON values.
    """
    if report.get("units_done_now") == 0 and store.exists(REPORT):
        return
    store.write(REPORT, json.dumps(redact_json(report), sort_keys=True).encode())


def record_estimate(store: Store, wall_seconds: float) -> None:
    """Write down how long a run is expected to take, for its report to compare.

    Args:
        store: The output folder.
        wall_seconds: The prediction.
    """
    store.write(ESTIMATE, json.dumps({"wall_seconds": wall_seconds}).encode())


def recorded_estimate(store: Store) -> float | None:
    """Give what ``record_estimate`` wrote, None where nothing was."""
    try:
        return float(json.loads(store.read(ESTIMATE))["wall_seconds"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """Give the installed versions of Strata and of the libraries it computes with."""
    found = {}
    for name in (DISTRIBUTION, *LIBRARIES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
