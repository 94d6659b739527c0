"""How a run is fitted into a cluster, on one with GPUs that exist in Ray's books alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_training import NoiseRecipe, run, settings_of

from pipeline.errors import SettingsError, TrainingError
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import latest_checkpoint
from pipeline.training.launch import shape_of, train

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
        shape = shape_of(TrainingSettings(num_steps=10, **asked))
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


def test_a_run_in_this_process_is_that_of_a_worker_and_starts_no_ray(tmp_path):
    """By Ray Train's local mode, which the trainer of a cluster has too."""
    import ray

    started = ray.is_initialized()
    settings = settings_of(runner="here", threads_per_worker=1)
    shape = shape_of(settings)
    assert str(shape) == "this process, 1 thread(s)"
    progress = train(NoiseRecipe(), settings, str(tmp_path / "here"), shape=shape)
    assert progress == run(NoiseRecipe(), settings, tmp_path / "loop")
    assert ray.is_initialized() == started
    assert train(NoiseRecipe(), settings, str(tmp_path / "here"), shape=shape) == progress
    with pytest.raises(TrainingError, match="not finite"):
        train(NoiseRecipe(broken=3), settings, str(tmp_path / "broken"), shape=shape)


def test_workers_in_this_process_are_one():
    with pytest.raises(SettingsError, match="one worker in this process, got 2"):
        settings_of(runner="here", num_workers=2)


SWEEP = """
import json, sys
import ray
from ray import tune
from made_training import NoiseRecipe, optimizer_of, settings_of
from pipeline.training.launch import Shape, train

folder, rates = sys.argv[1], json.loads(sys.argv[2])
settings = settings_of(num_steps=4, checkpoint_every=2, validate_every=2, num_workers=1, threads_per_worker=1)

def trial(config):
    recipe = NoiseRecipe(optimizer=optimizer_of(lr=config["lr"]))
    train(recipe, settings, f"{folder}/{config['lr']}", shape=Shape(num_workers=1, use_gpu=False, threads=1))

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
results = tune.Tuner(
    tune.with_resources(trial, {"cpu": 0.1}),
    param_space={"lr": tune.grid_search(rates)},
    tune_config=tune.TuneConfig(metric="validation_loss", mode="min", max_concurrent_trials=1),
    run_config=tune.RunConfig(storage_path=f"{folder}/tune", name="sweep", verbose=0),
).fit()
best = results.get_best_result().config["lr"]
told = {}
for result in results:
    found, reports = result.metrics, len(result.metrics_dataframe)
    told[str(result.config["lr"])] = [found["step"], found["validation_loss"], found["lr"], reports]
print(json.dumps([best, told]))
"""


# Nightly: test_listeners.py shows what is reported.
@pytest.mark.nightly
@pytest.mark.ray
def test_a_trial_of_ray_tune_hears_what_its_run_logs(tmp_path):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(tmp_path), json.dumps([1e-2, 1e-5])],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    best, told = json.loads(done.stdout.splitlines()[-1])
    for rate, found in told.items():
        history = latest_checkpoint(open_store(str(tmp_path / rate))).progress.history
        last, before = history[-1], history[-2]
        assert found == [4, pytest.approx(last["validation_loss"]), pytest.approx(before["lr"]), 2]
    assert str(best) == min(told, key=lambda rate: told[rate][1])
