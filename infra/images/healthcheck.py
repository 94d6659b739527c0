"""Say by the exit code whether this container is well: 0 or 1, and one sentence.

    python infra/images/healthcheck.py

Where a Ray node runs in it, the node answers on its agent's port (52365, or RAY_AGENT_PORT); else Strata can be
imported. Needs nothing but Python, and no token: Ray answers this question to everybody who reaches the port.
"""

import importlib.util
import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 10


def runs_ray() -> bool:
    """Whether `ray start` has been called here: it writes the cluster's address down."""
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    return (folder / "ray_current_cluster").exists()


def ill() -> str | None:
    """Say what is wrong; None where nothing is."""
    if not runs_ray():
        return None if importlib.util.find_spec("pipeline") else "the package pipeline is not on PYTHONPATH"
    url = f"http://127.0.0.1:{os.environ.get('RAY_AGENT_PORT', '52365')}/api/healthz"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"the Ray node answers {error.code} on {url}"
    except OSError as error:
        return f"the Ray node does not answer on {url}: {error}"


if __name__ == "__main__":
    wrong = ill()
    print(wrong or "well")
    sys.exit(wrong is not None)
