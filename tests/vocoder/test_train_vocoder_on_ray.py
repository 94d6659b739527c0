"""train_vocoder on Ray Train: a worker that is killed ends nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, job_flags, vocoder_config

from pipeline.faults import VARIABLE
from pipeline.vocoder.training.stage import train_vocoder

ROOT = Path(__file__).parents[2]


def history(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.nightly
@pytest.mark.ray
def test_a_killed_worker_ends_nothing_and_changes_no_loss(tmp_path):
    """SIGKILL of rank 1 after step 5, which is in no checkpoint; the job as people run it."""
    write_corpus_of_tones(tmp_path, np.random.default_rng(3).uniform(0.25, 1.4, 24), columns=COLUMNS)
    two = {"batches_per_step": 2}
    train_vocoder(vocoder_config(tmp_path, tmp_path / "here", **two))
    kill = {"point": "after_step", "match": "rank 1 step 5", "action": "kill", "once": str(tmp_path / "killed")}
    config = vocoder_config(tmp_path, tmp_path / "out", **two, runner="ray", num_workers=2)
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "train_vocoder.py"), "--ray-address=local", *job_flags(config)],
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: json.dumps([kill])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["num_steps"], report["workers"]) == (6, "2 worker(s) of 1 thread(s)")
    found, expected = history(tmp_path / "out"), history(tmp_path / "here")
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=2e-3, abs=1e-4)
    # One file of events for each start.
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 2
