"""The shard protocol under every crash we can schedule, without Ray: a store that fails on schedule, in memory."""

import os
import signal
from collections import Counter
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_stores import InLockStep, Killed, MemoryStore

from pipeline.store import dataset as datasets
from pipeline.store.completion import finish, status
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.store.verification import inspect
from pipeline.work.units import Reject, Utterance, make_unit, reasons, rejects_table

COLUMNS = pa.schema([("utterance_id", pa.string()), ("num_frames", pa.int32()), ("layer_02", pa.list_(pa.uint16()))])


def plan(units):
    return Plan(
        kind="tokens",
        content={"data_version": 1},
        lineage={"layers": [2], "dim": 4, "num_clusters": {"layer_02": 1000}},
        units=[f"shard-{n:05d}" for n in range(units)],
        totals={"rows": 3 * units},
    )


def utterances(unit):
    return [
        Utterance(
            utterance_id=f"{unit}-{n}", uri="x", samples=None, seconds=1.0, problem=("empty", "") if n == 1 else None
        )
        for n in range(3)
    ]


def make(unit, rows, *, lineage, calls=None):
    if calls is not None:
        calls[unit] += 1
    kept = [row.utterance_id for row in rows if row.problem is None]
    table = pa.table({"utterance_id": kept, "num_frames": [1] * len(kept), "layer_02": [[7]] * len(kept)}, COLUMNS)
    rejects = [
        Reject(utterance_id=r.utterance_id, uri=r.uri, stage="tokens", reason=r.problem[0], detail=r.problem[1])
        for r in rows
        if r.problem
    ]
    return Output(
        data=parquet_bytes(table, lineage),
        rows=len(kept),
        rejects=rejects_table(rejects),
        seconds=float(len(kept)),
        num_frames=len(kept),
        notes={"reasons": reasons(rejects)},
    )


def no_factory():
    raise AssertionError("a unit that died of its machine must not be made in a child here")


def run(store, the_plan, calls, order=None):
    """What one driver with one worker does; may be killed at any operation."""
    dataset = Dataset(store, the_plan)
    pending = dataset.pending()
    for unit in sorted(pending, key=order) if order else pending:
        make_unit(
            dataset,
            unit,
            utterances(unit),
            partial(make, lineage=the_plan.lineage, calls=calls),
            factory=no_factory,
            numerics={},
        )
    finish(dataset)


def visible(files):
    return {name: data for name, data in files.items() if not name.startswith("_")} | {
        name: data
        for name, data in files.items()
        if name.startswith("_rejects/") or name in ("_shards.parquet", "_SUCCESS")
    }


def undisturbed(units):
    store = MemoryStore()
    run(store, plan(units), Counter())
    return visible(store.files)


@pytest.fixture(autouse=True)
def _plain_attempts(monkeypatch):
    # Here workers die of the schedule, never of their input.
    monkeypatch.setattr("pipeline.work.units.MAX_PLAIN_ATTEMPTS", 10**6)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_single_operation_a_rerun_gives_the_same_bytes(when):
    expected = undisturbed(2)
    total = MemoryStore()
    run(total, plan(2), Counter())
    assert total.operations > 15
    for number in range(total.operations):
        store, calls = MemoryStore(deaths=[(number, when)]), Counter()
        with pytest.raises(Killed):
            run(store, plan(2), calls)
        done = Dataset(store, plan(2)).committed()
        before = Counter(calls)
        run(MemoryStore(store.files), plan(2), calls)
        assert visible(store.files) == expected, f"killed {when} operation {number}"
        assert all(calls[unit] == before[unit] for unit in done), "a committed shard was made again"


@settings(max_examples=60, deadline=None)
@given(
    units=st.integers(1, 4),
    crashes=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["before", "after"])), max_size=6),
)
def test_every_utterance_ends_in_exactly_one_place_under_any_crash_schedule(units, crashes):
    files, the_plan = {}, plan(units)
    for crash in crashes:
        try:
            run(MemoryStore(files, [crash]), the_plan, Counter())
        except Killed:
            continue
    run(MemoryStore(files), the_plan, Counter())
    found = inspect(Dataset(MemoryStore(files), the_plan))
    assert found.faults == []
    assert (found.rows, found.rejects) == (2 * units, units)
    assert visible(files) == undisturbed(units)
    assert not [name for name in files if name.startswith("_attempts/")]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_two_drivers_interleaved_at_any_operation_write_every_row_once(data):
    files, the_plan = {}, plan(2)
    turns = data.draw(st.lists(st.integers(0, 1), min_size=10, max_size=60))
    errors = InLockStep(files, turns).run(lambda who, store: run(store, the_plan, Counter()))
    assert errors == []
    assert visible(files) == undisturbed(2)


def test_a_zombie_that_wakes_after_the_end_changes_nothing():
    files, the_plan, calls = {}, plan(1), Counter()
    zombie = Dataset(MemoryStore(files), the_plan)
    unit = the_plan.units[0]
    attempt = zombie.announce(unit)
    output = make(unit, utterances(unit), lineage=the_plan.lineage)
    run(MemoryStore(files), the_plan, calls)
    after = visible(files)
    late = Output(**{**vars(output), "data": b"other bytes"})
    winner = zombie.commit(unit, attempt, late, {})
    assert winner.attempt != attempt
    assert visible(files) == after
    finish(zombie)
    assert visible(files) == after


def test_a_lost_answer_to_a_commit_counts_as_our_success():
    class Ambiguous(MemoryStore):
        def create(self, name, data):
            super().create(name, data)
            return False

    store, the_plan = Ambiguous(), plan(1)
    dataset = Dataset(store, the_plan)
    unit = the_plan.units[0]
    attempt = dataset.announce(unit)
    commit = dataset.commit(unit, attempt, make(unit, utterances(unit), lineage=the_plan.lineage), {})
    assert commit.attempt == attempt
    assert store.exists(commit.data.attempt_file)


class Fragile:
    """A maker that dies, as a segfault would, on the utterances it is told."""

    stage = "tokens"

    def __init__(self, killers, together, lineage):
        self.killers, self.together, self.lineage = killers, together, lineage

    def make(self, unit, rows):
        live = [row.utterance_id for row in rows if row.samples is not None]
        if self.killers & set(live) or len(live) >= self.together:
            os.kill(os.getpid(), signal.SIGSEGV)
        return make(unit, [row if row.problem else row for row in rows], lineage=self.lineage)

    def numerics(self):
        return {}


def _poisoned(killers, together, monkeypatch):
    monkeypatch.setattr("pipeline.work.units.MAX_PLAIN_ATTEMPTS", 2)
    the_plan = plan(1)
    dataset, unit = Dataset(MemoryStore(), the_plan), the_plan.units[0]
    for _ in range(2):
        dataset.announce(unit)
    rows = [Utterance(utterance_id=f"u{n}", uri=f"{n}.wav", samples=b"", seconds=1.0) for n in range(3)]
    factory = partial(Fragile, killers, together, the_plan.lineage)

    def plain(unit, rows):
        raise AssertionError("the third attempt must run in a child")

    return dataset, make_unit(dataset, unit, rows, plain, factory=factory, numerics={})


def test_an_utterance_that_kills_its_worker_is_rejected_and_the_others_live(monkeypatch):
    dataset, commit = _poisoned({"u1"}, 99, monkeypatch)
    assert commit.data.rows == 2
    table = pa.parquet.read_table(pa.BufferReader(dataset.store.read("_rejects/shard-00000.parquet")))
    assert table.select(["utterance_id", "reason"]).to_pylist() == [{"utterance_id": "u1", "reason": "encoder_crash"}]


def test_a_shard_that_died_of_its_machine_gives_the_same_bytes_in_the_child(monkeypatch):
    dataset, commit = _poisoned(set(), 99, monkeypatch)
    assert commit.num_rejects == 0
    plain = make(
        "x",
        [Utterance(utterance_id=f"u{n}", uri="", samples=b"", seconds=1.0) for n in range(3)],
        lineage=dataset.plan.lineage,
    )
    assert commit.data.sha256 == datasets.sha256(plain.data)


def test_a_shard_that_only_dies_as_a_whole_stops_with_one_sentence(monkeypatch):
    from pipeline.errors import PipelineError

    with pytest.raises(PipelineError, match="none of its utterances does so alone"):
        _poisoned(set(), 2, monkeypatch)


def test_status_of_a_half_done_folder_counts_only_commits():
    store, the_plan = MemoryStore(), plan(3)
    dataset = Dataset(store, the_plan)
    unit = the_plan.units[1]
    dataset.announce(the_plan.units[0])
    dataset.commit(unit, dataset.announce(unit), make(unit, utterances(unit), lineage=the_plan.lineage), {})
    assert (status(dataset).done, status(dataset).rows, status(dataset).rejects) == (1, 2, 1)
