"""The runner in this process: threads share a maker, errors reach the person, a stop commits what is being made."""

import os
import threading
import time
from functools import partial

import psutil
import pyarrow as pa
import pytest

from pipeline.errors import PipelineError, PlanMismatchError
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes, shard_name
from pipeline.work.here import Here
from pipeline.work.runtime import kept_threads, settle_allocator
from pipeline.work.units import Utterance
from pipeline.work.worker_shape import Node, Placement, worker_shape


def shape(workers=1):
    return worker_shape([Node(cpus=workers, gpus=0, memory=1 << 30)], Placement(num_workers=workers), use_gpu=False)


@pytest.fixture
def dataset(tmp_path):
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(n) for n in range(8)], totals={"rows": 8})
    return Dataset.create(str(tmp_path / "out"), plan)


def load(unit):
    return [Utterance(utterance_id=unit, uri="x", samples=None, seconds=1.0, problem=("empty", ""))]


class Maker:
    """Tells of what is done to it; what it does before a unit is up to the test."""

    stage = "tokens"

    def __init__(self, made, before=lambda unit: None, numerics=None):
        self.made, self.before, self.says = made, before, numerics or {"device": "cpu"}
        made.append("built")

    def numerics(self):
        return self.says

    def make(self, unit, utterances):
        self.made.append((unit, threading.get_ident()))
        self.before(unit)
        table = pa.table({"utterance_id": [utterance.utterance_id for utterance in utterances]})
        return Output(data=parquet_bytes(table, {}), rows=len(utterances))


def units(dataset, factory, workers=1, **how):
    pending = dataset.pending()
    return Here().units(dataset, pending, load=load, factory=factory, shape=shape(workers), **how)


def names_of(made):
    return sorted(entry[0] for entry in made if entry != "built")


def test_units_are_made_once_each_and_committed_before_they_are_yielded(dataset):
    made = []
    for done in units(dataset, partial(Maker, made), workers=2):
        assert dataset.read_commit(done.commit.unit) == done.commit
        assert done.process == str(os.getpid())
    assert names_of(made) == dataset.plan.units
    assert dataset.pending() == []


def test_a_maker_is_built_once_and_called_by_two_threads_at_the_same_time(dataset):
    made, together = [], threading.Barrier(2)
    # Each unit waits for another that is being made: one thread alone would wait for ever.
    done = list(units(dataset, partial(Maker, made, lambda unit: together.wait(20))))
    assert len(done) == 8
    assert made.count("built") == 1
    assert len({thread for entry in made if entry != "built" for thread in [entry[1]]}) == 2


def test_each_of_two_workers_builds_a_maker(dataset):
    made, together = [], threading.Barrier(4)

    def wait(unit):
        if unit < shard_name(4):
            together.wait(20)

    done = list(units(dataset, partial(Maker, made, wait), workers=2))
    assert made.count("built") == 2
    assert {row.worker for row in done} == {"0", "1"}


def test_the_last_unit_goes_to_a_worker_that_is_free(tmp_path):
    """Taken ahead it would wait for its worker's device, while the other's may be free before."""
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(n) for n in range(3)], totals={"rows": 3})
    beside = []

    class Counting(Maker):
        def __init__(self):
            super().__init__([])
            self.busy = 0

        def make(self, unit, utterances):
            if unit == shard_name(2):
                beside.append(self.busy)
            self.busy += 1
            # Long beside what taking a unit takes: both workers have begun when one of these ends.
            time.sleep(0.1 if unit == shard_name(2) else 1.0)
            self.busy -= 1
            return super().make(unit, utterances)

    done = list(units(Dataset.create(str(tmp_path), plan), Counting, workers=2))
    assert len(done) == 3
    assert beside == [0]


def refuse(unit):
    if unit == shard_name(3):
        raise PlanMismatchError("a sentence for the person")


def test_an_error_of_ours_reaches_the_person_as_itself(dataset):
    with pytest.raises(PlanMismatchError, match="^a sentence for the person$"):
        list(units(dataset, partial(Maker, [], refuse)))


def break_down(unit):
    if unit == shard_name(3):
        raise ZeroDivisionError("a slip")


def test_another_error_names_the_unit_and_what_it_was(dataset):
    with pytest.raises(PipelineError, match="shard-00003 failed with ZeroDivisionError: a slip"):
        list(units(dataset, partial(Maker, [], break_down)))


def test_an_error_while_loading_or_building_ends_the_run(dataset):
    def fail(*_):
        raise PlanMismatchError("no maker")

    with pytest.raises(PlanMismatchError, match="no maker"):
        list(units(dataset, fail))
    with pytest.raises(PlanMismatchError, match="no maker"):
        list(Here().units(dataset, dataset.pending(), load=fail, factory=partial(Maker, []), shape=shape()))
    assert len(dataset.pending()) == 8


def test_a_stop_commits_what_is_being_made_and_begins_no_more(dataset):
    made, begun, go_on = [], threading.Semaphore(0), threading.Event()

    def wait(unit):
        if unit != shard_name(0):
            begun.release()
            assert go_on.wait(20)

    running = units(dataset, partial(Maker, made, wait))
    assert next(running).commit.unit == shard_name(0)
    # Both threads of the maker hold a unit now, and go on when the stop has been asked for.
    assert begun.acquire(timeout=20)
    assert begun.acquire(timeout=20)
    threading.Timer(0.5, go_on.set).start()
    running.close()
    assert go_on.is_set()
    assert len(names_of(made)) == 3
    assert sorted(commit.unit for commit in dataset.commits()) == names_of(made)


def test_threads_are_as_before_when_the_work_is_done(dataset, monkeypatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        list(units(dataset, partial(Maker, [], lambda unit: seen.append(torch.get_num_threads()))))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if "_guarded" in name or name.startswith(("task", "actor"))]
    finally:
        torch.set_num_threads(before)


def test_a_variable_that_was_not_set_is_not_set_afterwards(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with kept_threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ


def test_settling_the_allocator_again_keeps_what_was_set(monkeypatch):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    settle_allocator()
    settle_allocator()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


def test_numerics_are_claimed_and_others_refused_unless_any_may_be(dataset):
    part = dataset.pending()[:4]
    list(Here().units(dataset, part, load=load, factory=partial(Maker, []), shape=shape()))
    other = partial(Maker, [], numerics={"device": "cuda"})
    with pytest.raises(PlanMismatchError, match="device"):
        list(units(dataset, other))
    assert len(dataset.pending()) == 4
    list(units(dataset, other, numerics_mode="any"))
    assert dataset.pending() == []


def add(shared, number):
    return shared + number


def test_tasks_are_called_with_what_they_share_and_their_errors_come_back():
    assert sorted(Here().tasks(add, [(n,) for n in range(20)], shared=100, workers=3)) == list(range(100, 120))
    with pytest.raises(TypeError):
        list(Here().tasks(add, [("x",)], shared=1, workers=1))


class Counter:
    def __init__(self, start):
        self.total = start

    def add(self, number):
        self.total += number
        return self.total


def test_actors_keep_what_they_hold_and_answer_in_their_order():
    actors = Here().actors(Counter, [(0,), (10,)], cpus=1, gpus=0)
    try:
        assert actors.ask("add", 1) == [1, 11]
        assert actors.ask("add", 1) == [2, 12]
        assert actors.total(lambda *some: sum(some), "add", 0) == 14
    finally:
        actors.close()


def test_a_node_has_the_cpus_of_this_process_and_less_memory_than_is_free():
    (node,) = Here().nodes()
    assert node.cpus == len(os.sched_getaffinity(0))
    # Ray leaves three tenths; another process may take some between the two looks.
    assert 0.2 * psutil.virtual_memory().available < node.memory < 0.9 * psutil.virtual_memory().total
