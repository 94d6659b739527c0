"""Exports in processes that die at a named instant or before a write, or that have no room; without Ray."""

import os
import resource
import signal
import sys
import threading
from functools import partial

from made_kills import KILLED, in_child

from pipeline.export.stage import export_tokens

__all__ = ["KILLED", "export_in_child", "names"]


def export_in_child(config, faults=(), *, kill_at_write=0, most_file_bytes=0):
    """Export in a process of its own.

    Args:
        config: The settings.
        faults: See ``pipeline.faults``.
        kill_at_write: The write to the disk before whose end the process is killed, counted from 1; 0 for none.
        most_file_bytes: The largest file that the process may write; 0 for any.

    Returns:
        Its exit code, the message of the error of ours that ended it or None, and the units that it began.
    """
    ended = in_child(export_tokens, config, faults, before=partial(_prepare, kill_at_write, most_file_bytes))
    return ended.code, ended.message, ended.announced


def _prepare(kill_at_write, most_file_bytes):
    # As where matplotlib is not installed: drawing takes longer than all else.
    sys.modules["matplotlib"] = None
    if kill_at_write:
        _kill_at_write(kill_at_write)
    if most_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))


def _kill_at_write(number):
    """Die when the bytes of the write with this number are in a temporary file, which has not its name yet."""
    real, done, counting = os.fsync, [], threading.Lock()

    def fsync(file):
        with counting:
            done.append(file)
            if len(done) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        real(file)

    os.fsync = fsync


def names(folder):
    """The names of all files below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
