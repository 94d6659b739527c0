"""Named fault points, so that tests can kill a process at an exact instant of its life.

Off unless the environment variable ``STRATA_FAULTS`` holds a JSON list of faults, each with ``point`` (a name
used in a ``point()`` call), ``match`` (a substring of that call's key, default any), ``action`` (see
``ACTIONS``), and optionally ``once``: a file path; the fault fires only for the process that creates that file.
The action ``log`` appends ``point key`` to the file named by ``path``: how tests count what was done twice.
"""

import ctypes
import json
import os
import signal
import time

VARIABLE = "STRATA_FAULTS"
ACTIONS = ("kill", "abort", "segfault", "stop", "hang", "allocate", "memory", "error", "log")


def point(name: str, key: str = "") -> None:
    """Mark an instant at which a test may make this process fail.

    Args:
        name: What has just happened, as ``after_data_before_commit``.
        key: The shard or utterance concerned.
    """
    faults = os.environ.get(VARIABLE)
    if not faults:
        return
    for fault in json.loads(faults):
        if fault["point"] == name and fault.get("match", "") in key and _first(fault.get("once")):
            _act(fault, f"{name} {key}")


def _first(marker: str | None) -> bool:
    if marker is None:
        return True
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _act(fault: dict[str, str], what: str) -> None:
    match fault["action"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(3600)
        case "allocate":
            bytearray(100 << 30)
        case "memory":
            raise MemoryError(f"fault injected at {what}")
        case "error":
            raise OSError(f"fault injected at {what}")
        case "log":
            with open(fault["path"], "a") as file:
                file.write(f"{what}\n")
        case other:
            raise ValueError(f"unknown fault action {other!r}; known: {', '.join(ACTIONS)}")
