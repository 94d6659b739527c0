"""What a stage tells a meter is what its log and report say; a meter of Ray that fails ends nothing."""

import logging
import re
import time
from dataclasses import replace

import pytest
from made_meters import Recorded

from pipeline.store.commits import Commit, FileRecord
from pipeline.store.completion import Status
from pipeline.work import meters
from pipeline.work.meters import METRICS, SILENT
from pipeline.work.reporting import Tally
from pipeline.work.units import Done
from pipeline.work.waiting import ShardTimes, Work, waiting
from pipeline.work.watching import StageWatch

START = Status(
    uri="s3://key:secret@bucket/tokens",
    kind="tokens",
    units=10,
    done=4,
    rows=40,
    rejects=2,
    seconds=400.0,
    total_rows=110,
    total_seconds=1000.0,
    num_frames=0,
    num_bytes=0,
    finished=False,
    reasons={"missing": 2},
    numerics={},
    notes={},
)
TAGS = {"stage": "tokens", "output": "s3://...@bucket/tokens"}


def done(unit, *, rows=10, rejects=0, seconds=60.0, **notes):
    """Give a unit that was committed by an encoder that computed for 3 s of 4."""
    file = FileRecord(attempt_file="", sha256="", bytes=1, rows=rows)
    commit = Commit(
        unit=unit,
        attempt="a",
        data=file,
        rejects=replace(file, rows=rejects) if rejects else None,
        seconds=seconds,
        num_frames=0,
        numerics={},
        notes=notes,
    )
    work = (Work(kind="encode", began=101.0, ended=104.0, busy=3.0),)
    times = ShardTimes(ready=100.0, arrived=101.0, work=work)
    return Done(commit=commit, worker="1", process="1", loader="", load_bytes=0, make_bytes=0, times=times)


@pytest.fixture
def watched():
    meter, tally = Recorded(), Tally(START)
    pending = [f"shard-{number:05d}" for number in range(4, 10)]
    return meter, tally, StageWatch(tally, pending, meter)


def commit(tally, watch, unit):
    tally.add(unit)
    watch.committed(unit)


def test_a_stage_tells_what_its_line_of_the_log_says(watched):
    meter, tally, watch = watched
    tally.began -= 1000
    with watch:
        commit(tally, watch, done("shard-00004", rejects=1, reasons={"missing": 1}))
        commit(tally, watch, done("shard-00007", rejects=2, reasons={"missing": 1, "not_audio": 1}))
        line = tally.line()
        assert line.startswith("tokens: 6/10 units, 0.144/0.278 h of audio")
        assert line.endswith("5 rejects")
    assert meter.values(meters.UNITS_DONE) == [4, 5, 6]
    assert meter.values(meters.UNITS_PENDING) == [6, 5, 4]
    assert meter.values(meters.AUDIO_DONE) == [400, 460, 520]
    assert meter.values(meters.AUDIO_PLANNED) == [1000]
    assert meter.values(meters.REJECTS_RATIO) == [2 / 42, 3 / 53, 5 / 65]
    assert meter.values(meters.AUDIO) == [60, 60]
    assert meter.values(meters.ROWS) == [10, 10]
    assert meter.values(meters.UNITS) == [1, 1]
    assert meter.values(meters.REJECTS, reason="missing") == [1, 1]
    assert meter.values(meters.REJECTS, reason="not_audio") == [1]
    assert meter.values(meters.REAL_TIME)[-1] == pytest.approx(tally.speed, rel=0.1)
    assert tally.speed == pytest.approx(0.12, rel=0.1)
    assert all(TAGS.items() <= tags.items() for _, _, tags in meter.told)
    assert meter.closed


def test_until_the_first_commit_it_is_the_time_of_the_begin(watched):
    meter, tally, watch = watched
    with watch:
        (began,) = meter.values(meters.STARTED)
        assert meter.values(meters.LAST_COMMIT) == [began]
        assert abs(began - time.time()) < 60
        commit(tally, watch, done("shard-00004"))
        assert meter.values(meters.LAST_COMMIT)[-1] > began
        assert meter.values(meters.STARTED) == [began]


def test_shares_of_time_are_those_of_the_report_and_come_from_time_to_time(watched):
    meter, tally, watch = watched
    with watch:
        for number in range(4, 9):
            commit(tally, watch, done(f"shard-{number:05d}"))
        # 1 s of 4 in which no shard was there; nobody is at the end of the stage yet.
        assert meter.values(meters.DEVICE_RATIO) == [0.75]
        assert meter.values(meters.WAITING_RATIO, cause="decode") == [0.25]
        assert meter.values(meters.WAITING_RATIO, cause="end") == [0]
    found = waiting(tally.actors.values(), time.time())
    assert meter.values(meters.DEVICE_RATIO)[-1] == pytest.approx(found.busy, rel=1e-3)
    assert meter.values(meters.WAITING_RATIO, cause="end")[-1] == pytest.approx(found.end, rel=1e-3)


def test_agreement_is_of_all_utterances_checked_so_far(watched):
    meter, tally, watch = watched
    with watch:
        commit(tally, watch, done("shard-00004", agreement={"layer_07": [[100, 99], [50, 50]]}))
        commit(tally, watch, done("shard-00005"))
        commit(tally, watch, done("shard-00006", agreement={"layer_07": [[50, 49]]}))
    assert meter.values(meters.AGREEMENT_RATIO, layer="layer_07") == [149 / 150, 198 / 200]


def test_names_follow_the_conventions_of_prometheus():
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 20
    for metric in METRICS:
        assert re.fullmatch(r"strata_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_ratio") == (metric.unit == "ratio")
        assert ("_seconds" in metric.name) == (metric.unit == "seconds")
        assert set(metric.tags) <= {"reason", "cause", "layer", "codebook", "loss"}


def test_nobody_hears_a_silent_meter():
    SILENT.set(meters.UNITS_DONE, 1, **TAGS)
    SILENT.add(meters.ROWS, 1, **TAGS)
    SILENT.close()


@pytest.fixture
def ray_metrics(monkeypatch):
    """The meter of Ray where metrics are kept here, gauges are set again soon, and Ray seems to be there."""
    from pipeline.work import ray_metrics

    monkeypatch.setattr(ray_metrics, "_KINDS", {"gauge": Kept, "counter": Kept})
    monkeypatch.setattr(ray_metrics, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(ray_metrics, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(ray_metrics.RayMeter, "_told_of_failure", False)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    Kept.given = []
    yield ray_metrics
    wait_until(lambda: ray_metrics.RayMeter._thread is None)


def wait_until(there):
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Broken:
    """A metric of a Ray whose agent is away."""

    def __init__(self, name, description, tag_keys):
        pass

    def set(self, value, tags):
        raise RuntimeError("no agent")

    inc = set


class Kept:
    """A metric that keeps what it is given."""

    given: list = []

    def __init__(self, name, description, tag_keys):
        self.name, self.tag_keys = name, tag_keys

    def set(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        Kept.given.append((self.name, value))

    inc = set


def test_a_ray_that_takes_no_metrics_is_told_of_once_and_ends_nothing(ray_metrics, monkeypatch, caplog):
    monkeypatch.setattr(ray_metrics, "_KINDS", {"gauge": Broken, "counter": Broken})
    for _ in range(2):
        meter = ray_metrics.RayMeter()
        meter.set(meters.UNITS_DONE, 1, **TAGS)
        meter.add(meters.ROWS, 1, **TAGS)
        time.sleep(0.1)
        meter.close()
    (message,) = caplog.messages
    assert message.startswith("Ray takes no metrics (RuntimeError: no agent)")
    assert caplog.records[0].levelno == logging.WARNING


def test_a_gauge_is_set_again_as_it_is_for_a_while_after_the_end_too_and_a_counter_grows_once(ray_metrics):
    meter = ray_metrics.RayMeter()
    meter.set(meters.UNITS_DONE, 1, **TAGS)
    meter.set(meters.UNITS_DONE, 2, **TAGS)
    meter.add(meters.ROWS, 5, **TAGS)
    meter.add(meters.ROWS, 0, **TAGS)
    wait_until(lambda: Kept.given.count(("strata_units_done", 2)) > 2)
    meter.close()
    closed = len(Kept.given)
    meter.set(meters.UNITS_DONE, 3, **TAGS)
    meter.add(meters.ROWS, 5, **TAGS)
    wait_until(lambda: ray_metrics.RayMeter._thread is None)
    assert set(Kept.given[closed:]) == {("strata_units_done", 2)}
    assert Kept.given.count(("strata_rows_total", 5)) == 1
    assert ray_metrics.RayMeter._gauges == {}


def test_of_two_runs_of_a_stage_the_later_one_is_told_of(ray_metrics):
    first, second = ray_metrics.RayMeter(), ray_metrics.RayMeter()
    first.set(meters.UNITS_PENDING, 0, **TAGS)
    first.set(meters.UNITS_DONE, 9, **TAGS)
    first.close()
    second.set(meters.UNITS_PENDING, 4, **TAGS)
    begun = len(Kept.given)
    wait_until(lambda: ("strata_units_pending", 4) in Kept.given[begun:])
    wait_until(lambda: {key[0] for key in ray_metrics.RayMeter._gauges} == {meters.UNITS_PENDING})
    second.close()
    assert ("strata_units_pending", 0) not in Kept.given[begun:]
    assert ("strata_units_done", 9) in Kept.given[begun:]


def test_nothing_is_set_once_ray_is_gone(ray_metrics, monkeypatch):
    meter = ray_metrics.RayMeter()
    meter.set(meters.UNITS_DONE, 1, **TAGS)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    wait_until(lambda: ray_metrics.RayMeter._thread is None)
    begun = len(Kept.given)
    time.sleep(0.1)
    assert Kept.given[begun:] == []
    meter.close()
