"""Exports in processes that die at a named instant or before a write, or that have no room; without Ray.

Each is forked from a server that has imported everything, so that a real SIGKILL costs a third of a second.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys

import pytest
from made_export import without_ray

from pipeline.errors import PipelineError
from pipeline.export.stage import export_tokens
from pipeline.faults import VARIABLE

KILLED = -signal.SIGKILL
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pipeline.export.stage", "tokenizers", "pytest"])


def export_in_child(config, faults=(), *, kill_at_write=0, most_file_bytes=0):
    """Export in a process of its own.

    Args:
        config: The settings.
        faults: See ``pipeline.faults``.
        kill_at_write: The write to the disk before whose end the process is killed, counted from 1; 0 for none.
        most_file_bytes: The largest file that the process may write; 0 for any.

    Returns:
        Its exit code, the message of the error of ours that ended it or None, and the units made, by kind.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    # The server has the environment of its start; a store in S3 is found by this process's.
    environment = {**os.environ, VARIABLE: json.dumps(list(faults))}
    process = _CONTEXT.Process(target=_export, args=(sender, config, environment, kill_at_write, most_file_bytes))
    process.start()
    sender.close()
    message, made = None, {}
    try:
        while True:
            message, made = receiver.recv()
    except EOFError:
        process.join(120)
    return process.exitcode, message, made


def _export(sender, config, environment, kill_at_write, most_file_bytes):
    # As where matplotlib is not installed: drawing takes longer than all else.
    sys.modules["matplotlib"] = None
    os.environ.update(environment)
    if kill_at_write:
        _kill_at_write(kill_at_write)
    if most_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    with pytest.MonkeyPatch.context() as patch:
        made = without_ray(patch)
        message = None
        try:
            export_tokens(config)
        except PipelineError as error:
            message = f"{type(error).__name__}: {error}"
        sender.send((message, dict(made)))


def _kill_at_write(number):
    """Die when the bytes of the write with this number are in a temporary file, which has not its name yet."""
    real, done = os.fsync, []

    def fsync(file):
        done.append(file)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(file)

    os.fsync = fsync


def names(folder):
    """The names of all files below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
