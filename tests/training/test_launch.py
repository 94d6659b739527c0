"""How a run is fitted into a cluster, on one with GPUs that exist in Ray's books alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_training import NoiseRecipe, optimizer_of, run, settings_of

from pipeline.errors import SettingsError, TrainingError
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import latest_checkpoint
from pipeline.training.launch import Shape, shape_of, train

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


@pytest.mark.ray
def test_a_trial_of_ray_tune_hears_what_its_run_logs(local_ray, tmp_path):
    from ray import tune

    rates = [1e-2, 1e-3]
    settings = settings_of(num_steps=4, checkpoint_every=2, validate_every=2, num_workers=1, threads_per_worker=1)

    def trial(config):
        recipe = NoiseRecipe(optimizer=optimizer_of(lr=config["lr"]))
        train(recipe, settings, str(tmp_path / str(config["lr"])), shape=Shape(num_workers=1, use_gpu=False, threads=1))

    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 0.1}),
        param_space={"lr": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(metric="validation_loss", mode="min", max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), name="sweep"),
    )
    results = tuner.fit()
    assert not results.errors
    for rate in rates:
        history = latest_checkpoint(open_store(str(tmp_path / str(rate)))).progress.history
        (found,) = [result for result in results if result.config["lr"] == rate]
        assert found.metrics["step"] == history[-1]["step"] == 4
        assert found.metrics["validation_loss"] == pytest.approx(history[-1]["validation_loss"])
        assert len(found.metrics_dataframe) == len(history)
    assert results.get_best_result().config["lr"] in rates
