"""Rejects made anew: the protocol under every kill, with two drivers, and what stays as it was."""

from collections import Counter
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_stores import InLockStep, Killed, MemoryStore

from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.store.completion import finish, status, success
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.store.redoing import check_reasons, goes_on, reopen
from pipeline.store.verification import inspect
from pipeline.work.units import Reject, make_unit, reasons, rejects_table

PLAN = Plan(
    kind="tokens",
    content={"data_version": 1},
    lineage={"layers": [2], "dim": 4, "num_clusters": {"layer_02": 1000}},
    units=[f"shard-{number:05d}" for number in range(4)],
    totals={"rows": 12},
)
COLUMNS = pa.schema([("utterance_id", pa.string()), ("num_frames", pa.int32()), ("layer_02", pa.list_(pa.uint16()))])
AWAY = {"shard-00001": ("missing",), "shard-00003": ("missing", "empty")}
"""Reasons of rejects by unit, while the corpus is away; the empty one is a fact."""
FACTS = {"shard-00003": ("empty",)}


def make(unit, rows, *, problems, calls):
    calls[unit] += 1
    names = [f"{unit}-{number}" for number in range(3)]
    found = dict(zip(names, problems.get(unit, ()), strict=False))
    kept = [name for name in names if name not in found]
    table = pa.table({"utterance_id": kept, "num_frames": [1] * len(kept), "layer_02": [[7]] * len(kept)}, COLUMNS)
    rejects = [
        Reject(utterance_id=name, uri="x", stage="tokens", reason=reason, detail="d") for name, reason in found.items()
    ]
    return Output(
        data=parquet_bytes(table, PLAN.lineage),
        rows=len(kept),
        rejects=rejects_table(rejects),
        seconds=float(len(kept)),
        num_frames=len(kept),
        notes={"reasons": reasons(rejects)},
    )


def run(store, problems, calls=None, redo=()):
    """What a driver does, as ``run_stage``; may be killed at any operation."""
    dataset = Dataset(store, PLAN)
    calls = Counter() if calls is None else calls

    def work():
        for unit in dataset.pending():
            plain = partial(make, problems=problems, calls=calls)
            make_unit(dataset, unit, [], plain, factory=None, numerics={})

    going_on = goes_on(dataset, redo) if redo else True
    work()
    if not going_on:
        reopen(dataset, redo)
        work()
    finish(dataset)
    return dataset


def visible(files):
    """Data and rejects as a reader finds them."""
    return {name: data for name, data in files.items() if not name.startswith("_") or name.startswith("_rejects/")}


@pytest.fixture(autouse=True)
def _plain_attempts(monkeypatch):
    # Here workers die of the schedule, never of their input.
    monkeypatch.setattr("pipeline.work.units.MAX_PLAIN_ATTEMPTS", 10**6)


def away():
    store = MemoryStore()
    run(store, AWAY)
    return store.files


def undisturbed():
    store = MemoryStore()
    run(store, FACTS)
    return store.files


def test_redone_rejects_leave_the_dataset_of_a_run_that_nothing_disturbed():
    files, calls = away(), Counter()
    before = dict(files)
    dataset = run(MemoryStore(files), FACTS, calls, redo=("missing",))
    assert visible(files) == visible(undisturbed())
    assert calls == {"shard-00001": 1, "shard-00003": 1}
    for unit in ("shard-00000", "shard-00002"):
        assert files[f"{unit}.parquet"] == before[f"{unit}.parquet"]
    assert inspect(dataset).faults == []
    assert dataset.finished()
    digests = [success(Dataset(MemoryStore(some), PLAN))["dataset_sha256"] for some in (before, files, undisturbed())]
    assert digests[0] != digests[1] == digests[2]
    assert not [name for name in files if name.startswith("_attempts")]


def test_a_reason_that_no_reject_has_changes_nothing():
    files = away()
    before, calls = dict(files), Counter()
    run(MemoryStore(files), FACTS, calls, redo=("unreadable",))
    assert (files, calls) == (before, {})


def test_asked_again_rejects_that_are_still_there_are_made_again_to_the_same_bytes():
    files = away()
    for number in (1, 2):
        calls = Counter()
        dataset = run(MemoryStore(files), AWAY, calls, redo=("missing",))
        assert calls == {"shard-00001": 1, "shard-00003": 1}
        assert len(dataset.redos) == number
        assert visible(files) == visible(away())
        assert inspect(dataset).faults == []
    calls = Counter()
    run(MemoryStore(files), FACTS, calls)
    assert calls == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_single_operation_the_same_command_ends_with_the_same_bytes(when):
    whole = MemoryStore(away())
    run(whole, FACTS, redo=("missing",))
    assert whole.operations > 15
    for number in range(whole.operations):
        files, calls = away(), Counter()
        with pytest.raises(Killed):
            run(MemoryStore(files, [(number, when)]), FACTS, calls, redo=("missing",))
        half = Dataset(MemoryStore(files), PLAN)
        # Never half a state: it is the dataset of before, or unfinished, or that of after.
        if half.finished():
            assert inspect(half).faults == [], number
        else:
            assert half.pending() or status(half).done == 4
        done, made = half.committed(), Counter(calls)
        opened = bool(half.redos)
        dataset = run(MemoryStore(files), FACTS, calls, redo=("missing",))
        assert visible(files) == visible(undisturbed()), f"killed {when} operation {number}"
        assert inspect(dataset).faults == []
        if opened:
            assert all(calls[unit] == made[unit] for unit in done), "a committed unit was made again"


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_single_operation_a_command_without_the_flag_goes_on_with_it(when):
    whole = MemoryStore(away())
    run(whole, FACTS, redo=("missing",))
    for number in range(whole.operations):
        files = away()
        with pytest.raises(Killed):
            run(MemoryStore(files, [(number, when)]), FACTS, redo=("missing",))
        dataset = run(MemoryStore(files), FACTS)
        assert inspect(dataset).faults == []
        assert visible(files) in (visible(undisturbed()), visible(away()))


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans())
def test_two_drivers_that_redo_at_the_same_time_write_every_row_once(data, second_redoes):
    files = away()
    turns = data.draw(st.lists(st.integers(0, 1), min_size=10, max_size=80))

    def drive(who, store):
        run(store, FACTS, redo=("missing",) if who == 0 or second_redoes else ())

    errors = InLockStep(files, turns).run(drive)
    # One may be told that the other was at it; nothing else.
    assert len(errors) < 2, errors
    assert all(isinstance(error, DatasetError | CorruptDatasetError) for error in errors), errors
    dataset = run(MemoryStore(files), FACTS)
    assert inspect(dataset).faults == []
    assert visible(files) == visible(undisturbed())


def test_a_zombie_of_the_generation_before_changes_nothing():
    files = away()
    zombie = Dataset(MemoryStore(files), PLAN)
    old = zombie.read_commit("shard-00001")
    attempt = zombie.announce("shard-00001")
    run(MemoryStore(files), FACTS, redo=("missing",))
    after = visible(files)
    output = make("shard-00001", [], problems=AWAY, calls=Counter())
    assert zombie.commit("shard-00001", attempt, output, {}).attempt == old.attempt
    zombie.publish(old)
    assert visible(files) == after
    assert inspect(run(MemoryStore(files), FACTS)).faults == []


def test_an_end_written_by_one_who_had_not_seen_the_new_generation_does_not_count():
    files = away()
    late = files["_SUCCESS"]
    dataset = Dataset(MemoryStore(files), PLAN)
    assert reopen(dataset, ["missing"]) == ["shard-00001", "shard-00003"]
    files["_SUCCESS"] = late
    assert not Dataset(MemoryStore(files), PLAN).finished()
    assert not status(Dataset(MemoryStore(files), PLAN)).finished
    assert inspect(run(MemoryStore(files), FACTS)).faults == []


def test_rejects_that_no_commit_names_are_a_fault():
    files = away()
    files["_rejects/shard-00000.parquet"] = files["_rejects/shard-00001.parquet"]
    assert inspect(Dataset(MemoryStore(files), PLAN)).faults == ["_rejects/shard-00000.parquet is in no commit"]


def test_verification_says_which_rejects_may_be_transient_and_how_to_redo_them():
    found = inspect(Dataset(MemoryStore(away()), PLAN))
    assert found.transient == {"missing": 2}
    (line,) = [text for label, text in found.lines() if label == "may be transient"]
    assert "2 rejects" in line
    assert line.endswith("--redo-rejects missing")
    assert inspect(Dataset(MemoryStore(undisturbed()), PLAN)).transient == {}


def test_a_reason_that_there_is_not_is_refused_by_name():
    with pytest.raises(SettingsError, match="decoder_crash.*got mising$"):
        check_reasons(["mising", "missing"])
