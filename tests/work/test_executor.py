"""Units on Ray: shapes that cannot run, separate processes, errors that reach the person, lost workers."""

import os
import signal
import time
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipeline.errors import PipelineError, PlanMismatchError
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes, shard_name
from pipeline.work.choice import Choice
from pipeline.work.executor import run_stage, stage_shape
from pipeline.work.on_ray import OnRay, queue_bytes
from pipeline.work.payload import pack, unpack
from pipeline.work.units import Utterance


def test_packed_utterances_come_back_bit_for_bit():
    rng = np.random.default_rng(0)
    rows = [
        Utterance(utterance_id="a", uri="a.wav", samples=rng.integers(-9, 9, 50).astype(np.int16), seconds=1.5),
        Utterance(utterance_id="b", uri="b.wav", samples=rng.standard_normal(7).astype(np.float32), seconds=0.5),
        Utterance(utterance_id="c", uri="c.wav", samples=None, seconds=0.0, problem=("empty", "0 bytes")),
    ]
    back = unpack(pack(rows))
    assert [(u.utterance_id, u.uri, u.seconds, u.problem) for u in back] == [
        (u.utterance_id, u.uri, u.seconds, u.problem) for u in rows
    ]
    for before, after in zip(rows[:2], back[:2], strict=True):
        assert after.samples.dtype == before.samples.dtype
        np.testing.assert_array_equal(after.samples, before.samples)
    assert back[2].samples is None
    assert unpack(pack([])) == []


def _load(unit):
    return [Utterance(utterance_id=unit, uri="x", samples=np.zeros(16000, np.int16), seconds=1.0)]


class _Maker:
    stage = "tokens"

    def __init__(self, plan, fail="", kill=""):
        self.plan, self.fail, self.kill = plan, fail, kill

    def numerics(self):
        return {"device": "cpu"}

    def make(self, unit, utterances):
        if unit == self.fail:
            raise PlanMismatchError("a sentence for the person")
        if self.kill:
            try:
                os.close(os.open(self.kill, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        table = pa.table({"utterance_id": [u.utterance_id for u in utterances]})
        return Output(data=parquet_bytes(table, self.plan.lineage), rows=len(utterances), seconds=1.0)


def _run(tmp_path, **kwargs):
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(n) for n in range(6)], totals={"rows": 6})
    dataset = Dataset.create(str(tmp_path / "out"), plan)
    return run_stage(
        dataset,
        load=_load,
        factory=lambda shape: partial(_Maker, plan, **kwargs),
        choice=Choice("ray", 6.0),
        numerics_mode="same",
        max_reject_fraction=0.0,
    )


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_decode_and_encode_run_in_different_processes(tmp_path):
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(n) for n in range(6)])
    dataset = Dataset.create(str(tmp_path / "out"), plan)
    shape = stage_shape(Choice("ray", 6.0))
    done = list(OnRay().units(dataset, plan.units, load=_load, factory=partial(_Maker, plan), shape=shape))
    assert sorted(row.commit.unit for row in done) == plan.units
    decoders, encoders = {row.loader for row in done}, {row.process for row in done}
    assert decoders
    assert not decoders & encoders
    assert not {ray.get_runtime_context().get_worker_id(), ""} & (decoders | encoders)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_error_in_a_worker_reaches_the_person_as_itself(tmp_path):
    with pytest.raises(PlanMismatchError, match="a sentence for the person"):
        _run(tmp_path, fail="shard-00003")


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_killed_encoder_costs_time_only(tmp_path):
    report = _run(tmp_path, kill=str(tmp_path / "killed"))
    assert (tmp_path / "killed").exists()
    assert (report.rows, report.units_done_now) == (6, 6)


class _HangingMaker(_Maker):
    """Makes nothing, for longer than the run is given."""

    def make(self, unit, utterances):
        time.sleep(600)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_run_in_which_nothing_is_made_for_very_long_ends_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.work.on_ray._NO_PROGRESS_SECONDS", 20)
    plan = Plan(kind="tokens", content={}, lineage={}, units=[shard_name(0)])
    dataset = Dataset.create(str(tmp_path / "out"), plan)
    shape = stage_shape(Choice("ray", 6.0))
    with pytest.raises(PipelineError, match="no unit was made for 0.33.* minutes; what is committed stays"):
        list(OnRay().units(dataset, plan.units, load=None, factory=partial(_HangingMaker, plan), shape=shape))


def _load_large(folder, unit):
    (folder / f"loaded-{unit}").touch()
    samples = np.zeros(8_000_000, np.int16)
    return [Utterance(utterance_id=unit, uri="x", samples=samples, seconds=500.0)]


class _SlowMaker(_Maker):
    """Writes down how many shards are decoded that nobody has begun to encode."""

    def __init__(self, plan, folder):
        super().__init__(plan)
        self.folder = folder

    def make(self, unit, utterances):
        ahead = len(list(self.folder.glob("loaded-*"))) - len(list(self.folder.glob("made-*")))
        (self.folder / f"made-{unit}").write_text(str(ahead))
        time.sleep(1.0)
        return super().make(unit, utterances)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_decoding_does_not_run_far_ahead(tmp_path):
    units = [shard_name(n) for n in range(40)]
    plan = Plan(kind="tokens", content={}, lineage={}, units=units, totals={"rows": 40, "seconds": 40 * 500.0})
    dataset = Dataset.create(str(tmp_path / "out"), plan)
    shape = stage_shape(Choice("ray", 20_000.0))
    factory = partial(_SlowMaker, plan, tmp_path)
    done = list(OnRay().units(dataset, units, load=partial(_load_large, tmp_path), factory=factory, shape=shape))
    assert len(done) == 40
    ahead = [int(path.read_text()) for path in tmp_path.glob("made-*")]
    shards = 2 * shape.max_workers + shape.decoders
    assert queue_bytes(dataset, shape) == shards * 500 * 64_000
    # 6 at most were ahead where 2 actors and 2 decode tasks run; 14 without the limit.
    assert max(ahead) <= shards + 2 * shape.decoders
