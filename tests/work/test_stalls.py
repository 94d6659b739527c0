"""A job that does nothing for long says so once, says what is pending, and says when it goes on."""

import logging
import time
from functools import partial

import pyarrow as pa
import pytest
from made_meters import Recorded

from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes, shard_name
from pipeline.work import meters
from pipeline.work.choice import Choice
from pipeline.work.executor import run_stage
from pipeline.work.here import Here
from pipeline.work.stalls import STALL_SECONDS, StallWatch, some_of


class Clock:
    """A clock that is set by hand."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def watched(caplog):
    caplog.set_level(logging.INFO)
    clock, told = Clock(), []
    watch = StallWatch("tokens", "no unit was committed", lambda: "9 units pending", told=told.append, now=clock)
    return watch, clock, told, caplog


def test_a_stall_is_told_of_once_with_what_is_pending_and_its_end_once(watched):
    watch, clock, told, found = watched
    clock.seconds = 100.0
    watch.moved("shard-00004")
    clock.seconds = 100.0 + STALL_SECONDS - 1
    watch.look()
    assert found.messages == told == []
    clock.seconds += 1
    for _ in range(5):
        watch.look()
        clock.seconds += 60
    assert told == [True]
    (message,) = found.messages
    assert message.startswith("tokens is stalled: no unit was committed for 5.0 minutes, since ")
    assert message.endswith("(shard-00004 was the last); 9 units pending")
    watch.moved("shard-00002")
    watch.moved("shard-00003")
    assert told == [True, False]
    assert found.messages[1:] == ["tokens goes on after 10.0 minutes, with shard-00002"]


def test_the_next_stall_is_another_one(watched):
    watch, clock, told, found = watched
    for _ in range(2):
        clock.seconds += STALL_SECONDS
        watch.look()
        watch.moved("a unit")
    assert told == [True, False, True, False]
    assert "(it is where it began)" in found.messages[0]
    assert "(a unit was the last)" in found.messages[2]


def test_some_of_many_are_named():
    assert some_of(["a", "b"]) == "a, b"
    assert some_of([f"shard-{number}" for number in range(2000)]) == "shard-0, shard-1, shard-2 and 1,997 more"


class _SleepyMaker:
    """Makes shards of nothing, and sleeps in one of them until somebody has told of it."""

    stage = "tokens"

    def __init__(self, plan, asleep, told):
        self.plan, self.asleep, self.told = plan, asleep, told

    def numerics(self):
        return {}

    def make(self, unit, utterances):
        if self.asleep is not None and unit == shard_name(self.asleep):
            deadline = time.monotonic() + 60
            while not self.told() and time.monotonic() < deadline:
                time.sleep(0.05)
        rows = pa.table({"utterance_id": [unit]})
        return Output(data=parquet_bytes(rows, self.plan.lineage), rows=1, seconds=3600.0)


def run(tmp_path, monkeypatch, *, asleep=None, seconds, told=lambda: True):
    """Run a stage of four shards in this process, one of them asleep until it is told; gives what its meter heard."""
    monkeypatch.setattr("pipeline.work.stalls.STALL_SECONDS", seconds)
    meter = Recorded()
    monkeypatch.setattr(Here, "meter", lambda self: meter)
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(n) for n in range(4)], totals={"rows": 4})
    dataset = Dataset.create(str(tmp_path / "out"), plan)
    run_stage(
        dataset,
        load=None,
        factory=lambda shape: partial(_SleepyMaker, plan, asleep, told),
        choice=Choice("here", 1.0),
        numerics_mode="same",
        max_reject_fraction=None,
    )
    return meter


def test_a_maker_that_sleeps_makes_its_stage_stall(tmp_path, monkeypatch, caplog):
    def told():
        return any(message.endswith("1 of 4 units pending: shard-00003") for message in caplog.messages)

    with caplog.at_level(logging.WARNING):
        meter = run(tmp_path, monkeypatch, asleep=3, seconds=1.0, told=told)
    # On a machine with much else to do the first shards may have been a stall, too.
    *_, begun, ended = (record.message for record in caplog.records if record.name == "pipeline.work.stalls")
    assert begun.startswith("tokens is stalled: no unit was committed for 0.0 minutes")
    assert begun.endswith("1 of 4 units pending: shard-00003")
    assert ended.endswith("with shard-00003")
    assert meter.values(meters.STALLED)[-2:] == [1, 0]


def test_a_stage_whose_makers_are_awake_never_stalls(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        meter = run(tmp_path, monkeypatch, seconds=60.0)
    assert [record for record in caplog.records if record.name == "pipeline.work.stalls"] == []
    assert meter.values(meters.STALLED) == [0]
