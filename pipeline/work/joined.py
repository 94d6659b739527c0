"""The Ray that work goes to when nothing else is asked for, found as ``ray.init`` would, without importing Ray."""

import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The Ray that work goes to when nothing else is asked for.

    Attributes:
        why: How it was found.
        running: Whether it runs already; a local one may be yet to start.
    """

    why: str
    running: bool


def joined_cluster() -> Joined | None:
    """Look for a Ray that this process is to use, as ``ray.init`` would, without importing Ray.

    Returns:
        None where there is none: this process is not connected, RAY_ADDRESS is not set, and no cluster that
        ``ray start`` has started answers on this machine.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return Joined(why="this process is connected to Ray", running=True)
    address = os.environ.get("RAY_ADDRESS")
    if address == "local":
        return Joined(why="the address 'local' asks for a local Ray", running=False)
    if address and address != "auto":
        return Joined(why="RAY_ADDRESS names a cluster", running=True)
    if _answers(Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"):
        return Joined(why="a Ray cluster runs on this machine", running=True)
    return None


def _answers(file: Path) -> bool:
    """Say whether the cluster answers that ``ray start`` has written down; a killed one leaves its address behind."""
    try:
        host, _, port = file.read_text().strip().rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True
