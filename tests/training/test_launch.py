"""How a run is fitted into a cluster, on one with GPUs that exist in Ray's books alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASK = """
import json, sys
import ray
from pipeline.errors import ClusterShapeError
from pipeline.training.launch import shape_of
from pipeline.training.settings import TrainingSettings

ray.init(address="local", num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False)
for asked in json.loads(sys.argv[1]):
    try:
        shape = shape_of(TrainingSettings(num_steps=10, warmup_steps=1, **asked))
        print(json.dumps([shape.num_workers, shape.use_gpu, shape.threads, str(shape)]))
    except ClusterShapeError as error:
        print(json.dumps(str(error)))
"""
CASES = [
    ({"batches_per_step": 8}, [4, True, 2, "4 worker(s) with a GPU each"]),
    ({"batches_per_step": 3}, [3, True, 2, "3 worker(s) with a GPU each"]),
    ({"batches_per_step": 8, "num_workers": 2}, [2, True, 4, "2 worker(s) with a GPU each"]),
    ({"batches_per_step": 8, "max_workers": 2}, [[1, 2], True, 8, "1 to 2 worker(s) with a GPU each"]),
    (
        {"batches_per_step": 8, "num_workers": 2, "max_workers": 8},
        [[2, 8], True, 4, "2 to 8 worker(s) with a GPU each"],
    ),
    ({"batches_per_step": 8, "num_workers": 5}, "5 worker(s) with a GPU each do not fit into 8 CPU and 4 GPU"),
    ({"use_gpu": False}, [1, False, 8, "1 worker(s) of 8 thread(s)"]),
    ({"use_gpu": False, "batches_per_step": 4, "num_workers": 4}, [4, False, 2, "4 worker(s) of 2 thread(s)"]),
    (
        {"use_gpu": False, "batches_per_step": 4, "max_workers": 4},
        [[1, 4], False, 8, "1 to 4 worker(s) of 8 thread(s)"],
    ),
    (
        {"use_gpu": False, "batches_per_step": 4, "num_workers": 3, "threads_per_worker": 3},
        "3 worker(s) with 3 CPU(s) each do not fit into 8 CPU and 4 GPU",
    ),
]


@pytest.fixture(scope="module")
def answers():
    """What is answered to each case, by a process whose Ray counts 8 CPUs and 4 GPUs."""
    asked = json.dumps([settings for settings, _ in CASES])
    done = subprocess.run(
        [sys.executable, "-c", ASK, asked],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-len(CASES) :]]


@pytest.mark.ray
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: "-".join(map(str, CASES[case][0].values())))
def test_workers_are_as_many_as_asked_for_or_as_fit(answers, case):
    _, expected = CASES[case]
    if isinstance(expected, str):
        assert answers[case].startswith(expected)
    else:
        assert answers[case] == expected
