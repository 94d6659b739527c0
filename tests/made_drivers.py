"""Stages in processes of their own that run beside each other; one may be stopped at an instant and let go later."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from made_kills import _CONTEXT, _run

from pipeline.faults import VARIABLE

WELL = (0, None)
"""How a driver ends well: its exit code, and the message of the error of ours that ended its stage."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A stage in a process of its own."""

    process: object
    receiver: object

    def wait_until_stopped(self):
        """Wait until the process has stopped itself."""
        deadline = time.monotonic() + 120
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert self.process.is_alive(), "the driver ended and never came to the point where it was to stop"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def go_on(self):
        """Let a stopped process go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def ended(self):
        """Wait for its end; give its exit code, and the message of the error of ours that ended its stage."""
        try:
            message = self.receiver.recv()
        except EOFError:
            message = "it sent nothing"
        self.process.join(120)
        return self.process.exitcode, message


def start(stage, config, faults=()):
    """Start a stage in a process of its own; see ``made_kills.in_child``."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    environment = {**os.environ, VARIABLE: json.dumps(list(faults))}
    process = _CONTEXT.Process(target=_run, args=(sender, stage, config, environment, None))
    process.start()
    sender.close()
    return Driver(process=process, receiver=receiver)


def stop_at(folder, point, match=""):
    """Give the fault that stops a process where it first comes to a point."""
    marker = folder / f"stopped-{time.monotonic_ns()}"
    return {"point": point, "match": match, "action": "stop", "once": str(marker)}


def overtaken(stage, config, fault):
    """Stop a driver at a point, let another do all the work, and let the first go on; give how both ended."""
    slow = start(stage, config, [fault])
    slow.wait_until_stopped()
    fast = start(stage, config).ended()
    slow.go_on()
    return slow.ended(), fast


def side_by_side(stage, config, offset):
    """Start two drivers, the second some seconds after the first; give how both ended."""
    first = start(stage, config)
    time.sleep(offset)
    second = start(stage, config)
    return first.ended(), second.ended()
