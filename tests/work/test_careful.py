"""Careful mode: what ends a child from outside rejects nothing; what kills it alone, while others live, is rejected."""

import os
import signal
import threading
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_trouble import descendants, says

from pipeline.errors import PipelineError, StorageError
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.work.deaths import FOREIGN_DEATHS
from pipeline.work.units import MAX_PLAIN_ATTEMPTS, Reject, Utterance, make_unit, reasons, rejects_table

UNIT = "shard-00000"
PLAN = Plan(kind="tokens", content={"data_version": 1}, lineage={}, units=[UNIT], totals={"rows": 4})
ROWS = [Utterance(utterance_id=f"u{number}", uri=f"{number}.wav", samples=b"", seconds=1.0) for number in range(4)]


@dataclass(frozen=True)
class Deaths:
    """Makers that die: ``marks`` is a folder where each death leaves a file, and ``plan`` says who dies how often.

    Attributes:
        marks: The folder.
        plan: By utterance, the signal (or exit status, below 0) and how often; ``*`` is any.
    """

    marks: str
    plan: dict[str, tuple[int, int]]

    stage = "tokens"

    def __call__(self):
        return self

    def make(self, unit, rows):
        live = {row.utterance_id for row in rows if row.usable}
        for name, (how, times) in self.plan.items():
            died = len([mark for mark in os.listdir(self.marks) if mark.startswith(f"{name}-")])
            if (name in live or name == "*") and died < times:
                open(f"{self.marks}/{name.replace('*', '*')}-{died}", "w").close()
                if how < 0:
                    os._exit(-how)
                os.kill(os.getpid(), how)
        return output_of(rows)

    def numerics(self):
        return {}


def output_of(rows):
    kept = [row.utterance_id for row in rows if row.usable]
    rejects = [
        Reject(utterance_id=row.utterance_id, uri=row.uri, stage="tokens", reason=row.problem[0], detail=row.problem[1])
        for row in rows
        if row.problem
    ]
    return Output(
        data=parquet_bytes(pa.table({"utterance_id": pa.array(kept, pa.string())}), {}),
        rows=len(kept),
        rejects=rejects_table(rejects),
        notes={"reasons": reasons(rejects)},
    )


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make a unit that has killed its workers twice, with makers that die as told; give its dataset and commit."""
    monkeypatch.setattr("pipeline.work.deaths._LONGEST_WAIT", 0.01)

    def make(plan, rows=ROWS):
        dataset = Dataset.create(str(tmp_path / "tokens"), PLAN)
        for _ in range(MAX_PLAIN_ATTEMPTS):
            dataset.announce(UNIT)
        (tmp_path / "marks").mkdir(exist_ok=True)

        def plain(unit, rows):
            raise AssertionError("the third attempt must run in a child")

        return dataset, make_unit(
            dataset, UNIT, rows, plain, factory=Deaths(str(tmp_path / "marks"), plan), numerics={}
        )

    return make


def rejected(dataset):
    return [
        (row["utterance_id"], row["reason"])
        for row in pq.read_table(f"{dataset.uri}/_rejects/{UNIT}.parquet").to_pylist()
    ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGBUS, -1, -137])
@pytest.mark.parametrize("times", [2, 5])
def test_a_careful_child_that_ends_from_outside_rejects_nothing(made, how, times):
    dataset, commit = made({"*": (how, times)})
    assert (commit.data.rows, commit.num_rejects) == (4, 0)
    assert commit.data.sha256 == dataset.read_commit(UNIT).data.sha256


def test_ended_from_outside_always_it_stops_the_run_with_one_sentence(made, tmp_path):
    with pytest.raises(StorageError, match="died by SIGKILL.*say nothing of its recordings.*same command again"):
        made({"*": (signal.SIGKILL, 10**6)})
    assert len(list((tmp_path / "marks").iterdir())) == FOREIGN_DEATHS
    _, commit = made({})
    assert (commit.data.rows, commit.num_rejects) == (4, 0)


def test_one_utterance_that_is_killed_from_outside_again_and_again_is_not_rejected(made):
    with pytest.raises(StorageError):
        made({"u2": (signal.SIGKILL, 10**6)})


def test_an_utterance_that_kills_alone_is_rejected_while_others_live(made):
    dataset, commit = made({"u1": (signal.SIGSEGV, 10**6), "u3": (signal.SIGABRT, 10**6)})
    assert rejected(dataset) == [("u1", "encoder_crash"), ("u3", "encoder_crash")]
    (first, second) = pq.read_table(f"{dataset.uri}/_rejects/{UNIT}.parquet")["detail"].to_pylist()
    assert "3 times (it died by SIGSEGV), while others were encoded between" in first
    assert "SIGABRT" in second
    assert commit.data.rows == 2


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_utterance_that_lives_once_is_not_rejected(made, times):
    _, commit = made({"u1": (signal.SIGSEGV, times)})
    assert (commit.data.rows, commit.num_rejects) == (4, 0)


def test_where_everything_kills_the_machine_is_at_fault(made):
    with pytest.raises(StorageError, match="the encoder does not work here"):
        made({"*": (signal.SIGILL, 10**6)})


def test_attempts_that_ended_in_an_exception_do_not_count(tmp_path):
    dataset = Dataset.create(str(tmp_path / "tokens"), PLAN)

    def full(unit, rows):
        raise OSError(28, "No space left on device")

    for _ in range(2 * MAX_PLAIN_ATTEMPTS):
        with pytest.raises(OSError, match="No space left"):
            make_unit(dataset, UNIT, ROWS, full, factory=partial(Deaths, "", {}), numerics={})
    assert dataset.attempts(UNIT) == 0
    calls = []

    def plain(unit, rows):
        calls.append(unit)
        return output_of(rows)

    make_unit(dataset, UNIT, ROWS, plain, factory=partial(Deaths, "", {}), numerics={})
    assert calls == [UNIT]
    finish(dataset)


class Unpicklable(Exception):
    def __init__(self):
        super().__init__(lambda: None)


class Failing:
    stage = "tokens"

    def make(self, unit, rows):
        raise Unpicklable

    def numerics(self):
        return {}


def test_an_exception_of_a_careful_child_that_cannot_be_sent_is_still_told(tmp_path):
    dataset = Dataset.create(str(tmp_path / "tokens"), PLAN)
    for _ in range(MAX_PLAIN_ATTEMPTS):
        dataset.announce(UNIT)
    with pytest.raises(PipelineError, match="failed with Unpicklable"):
        make_unit(dataset, UNIT, ROWS, None, factory=Failing, numerics={})


class Large:
    """A factory whose pickle is larger than a pipe's buffer."""

    stage = "tokens"

    def __init__(self):
        self.ballast = bytes(1 << 20)

    def __call__(self):
        return self

    def make(self, unit, rows):
        return output_of(rows)

    def numerics(self):
        return {}


@pytest.mark.timeout(60)
def test_a_child_that_is_killed_before_it_has_read_its_work_is_no_wait_for_ever(tmp_path, monkeypatch):
    """The kill comes while the child starts, when nobody reads what it is given."""
    dataset = Dataset.create(str(tmp_path / "tokens"), PLAN)
    for _ in range(MAX_PLAIN_ATTEMPTS):
        dataset.announce(UNIT)
    killed = []

    def kill():
        while len(killed) < 3:
            for pid in descendants(os.getpid()):
                if pid not in killed and len(killed) < 3 and says(pid, "multiprocessing.spawn"):
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    commit = make_unit(dataset, UNIT, ROWS, None, factory=Large(), numerics={})
    assert (commit.data.rows, len(killed)) == (4, 3)
