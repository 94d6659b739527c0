"""A stage on clusters of several nodes: logical GPUs and resources of local Ray nodes, real placement by Ray.

Each cluster lives in a process of its own, because this one may have a local Ray already.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import pyarrow as pa
import ray
from ray.cluster_utils import Cluster
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes, shard_name
from pipeline.work.choice import Choice
from pipeline.work.executor import run_stage, stage_shape
from pipeline.work.units import Utterance
from pipeline.work.worker_shape import Placement

def node():
    return ray.get_runtime_context().get_node_id()

def load(unit):
    return [Utterance(utterance_id=f"{unit}@{node()}", uri="x", samples=None, seconds=0.0, problem=("empty", ""))]

class Maker:
    stage = "tokens"

    def numerics(self):
        return {}

    def make(self, unit, utterances):
        # Nobody finishes before all actors have begun: on a busy machine the first could take every unit.
        begun.joinpath(str(os.getpid())).touch()
        until = time.monotonic() + 100
        while len(list(begun.iterdir())) < settings["actors"] and time.monotonic() < until:
            time.sleep(0.1)
        where = utterances[0].utterance_id.partition("@")[2]
        table = pa.table({"loaded": [where], "made": [node()], "pid": [os.getpid()], "gpus": [str(ray.get_gpu_ids())]})
        return Output(data=parquet_bytes(table, {}), rows=1)

settings = json.loads(sys.argv[1])
begun = Path(sys.argv[2] + "_begun")
begun.mkdir()
cluster = Cluster()
for arguments in settings["nodes"]:
    cluster.add_node(include_dashboard=False, object_store_memory=100 << 20, **arguments)
os.environ["RAY_ADDRESS"] = cluster.address
units = [shard_name(n) for n in range(settings["units"])]
dataset = Dataset.create(sys.argv[2], Plan(kind="tokens", content={}, lineage={}, units=units))
placement, choice = Placement(**settings["placement"]), Choice("auto", 1.0)
shape = stage_shape(choice, placement)
run_stage(
    dataset,
    load=load,
    factory=lambda shape: Maker,
    choice=choice,
    placement=placement,
    numerics_mode="same",
    max_reject_fraction=1.0,
)
nodes = {n["NodeID"]: {k: v for k, v in n["Resources"].items() if k in ("CPU", "GPU", "decoding")} for n in ray.nodes()}
ray.shutdown()
cluster.shutdown()
print(json.dumps({"nodes": nodes, "shape": str(shape)}))
"""


def run(tmp_path, **settings):
    import pyarrow.parquet as pq

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(settings), str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert len(rows) == settings["units"]
    return rows, told["nodes"], told["shape"]


def test_decoding_stays_on_its_nodes_and_encoders_share_the_gpus_of_theirs(tmp_path):
    rows, nodes, shape = run(
        tmp_path,
        nodes=[
            {"num_cpus": 2, "resources": {"decoding": 1}},
            {"num_cpus": 4, "num_gpus": 2},
        ],
        placement={"gpus_per_worker": 0.5, "decode_resource": "decoding"},
        units=16,
        actors=4,
    )
    decoding = {name for name, has in nodes.items() if "decoding" in has}
    with_gpus = {name for name, has in nodes.items() if has.get("GPU")}
    assert len(decoding) == len(with_gpus) == 1
    assert {row["loaded"] for row in rows} == decoding
    assert {row["made"] for row in rows} == with_gpus
    assert shape.startswith("4 encoder actor(s) with 1 CPU, 0.5 GPU")
    assert len({row["pid"] for row in rows}) == 4
    # Each actor sees one device; two actors share each.
    assert {row["gpus"] for row in rows} == {"[0]", "[1]"}


def test_a_pool_grows_while_there_is_work(tmp_path):
    rows, _, shape = run(
        tmp_path,
        nodes=[{"num_cpus": 4}],
        placement={"max_workers": 3},
        units=16,
        actors=2,
    )
    assert shape.startswith("1 to 3 encoder actor(s)")
    assert 1 < len({row["pid"] for row in rows}) <= 3
