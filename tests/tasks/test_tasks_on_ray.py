"""train_task on Ray Train: a worker that is killed, and two instead of one."""

from itertools import islice

import pytest
from made_killed_workers import history, train_with_a_killed_worker
from made_tasks import job_flags, task_config, write_task_corpus

from pipeline.tasks.stage import prepare, train_task

TWO_A_STEP = {"batches_per_step": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    write_task_corpus(root)
    return root


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """Train each task once, in this process; gives its folder."""
    made = {}

    def train(task):
        if task not in made:
            made[task] = tmp_path_factory.mktemp(task) / "out"
            train_task(task_config(folder, made[task], task, **TWO_A_STEP))
        return made[task]

    return train


def assert_alike(found, expected):
    """Compare the histories of two runs up to the order of float32 sums."""
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.ray
def test_a_killed_worker_ends_nothing_and_changes_no_loss(folder, undisturbed, tmp_path):
    config = task_config(folder, tmp_path / "out", "asr", **TWO_A_STEP, runner="ray", num_workers=2)
    train_with_a_killed_worker("train_task", job_flags(config), tmp_path)
    assert_alike(history(tmp_path / "out"), history(undisturbed("asr")))


# Nightly: the test before has two workers too.
@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.parametrize("task", ["asr", "sid", "er", "tts"])
def test_two_workers_train_to_the_losses_of_one(local_ray, folder, undisturbed, tmp_path, task):
    alone = undisturbed(task)
    tickets = islice(prepare(task_config(folder, tmp_path / "none", task)).recipe.source().tickets(None), 12)
    # An utterance that is alone is normalised by running statistics, which are each worker's own.
    assert all(len(ticket.pieces) > 1 for ticket, _ in tickets) or task in ("asr", "tts")
    config = task_config(folder, tmp_path / "out", task, **TWO_A_STEP, runner="ray", num_workers=2)
    assert train_task(config).workers == "2 worker(s) of 1 thread(s)"
    found, expected = history(tmp_path / "out"), history(alone)
    # Validation takes the mean of the workers' running statistics, so only training is equal (docs/training.md).
    assert_alike(*([line for line in lines if "loss" in line] for lines in (found, expected)))
