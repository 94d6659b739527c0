"""A training on Ray Train one of whose workers is killed, run as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.faults import VARIABLE

ROOT = Path(__file__).parents[1]


def history(output):
    """Give what a training logged, a dictionary per line."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def train_with_a_killed_worker(job, flags, folder):
    """Run a job of six steps, with SIGKILL of rank 1 after step 5, which is in no checkpoint; see that it ends well.

    Args:
        job: Its name.
        flags: Its flags; two workers, and FOLDER/out as output.
        folder: Where it trains.
    """
    kill = {"point": "after_step", "match": "rank 1 step 5", "action": "kill", "once": str(folder / "killed")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{job}.py"), "--ray-address=local", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: json.dumps([kill])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "killed").exists()
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["num_steps"], report["workers"]) == (6, "2 worker(s) of 1 thread(s)")
    # One file of events for each start.
    assert len(list((folder / "out" / "tensorboard").iterdir())) == 2
