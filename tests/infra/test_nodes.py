"""What a RayJob waits for, and how a node is drained, on a Ray of two nodes on this machine."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
AWAIT = ROOT / "infra" / "images" / "await_nodes.py"

# A process of its own, because this one may have a local Ray already.
SCRIPT = """
import json, os, subprocess, sys, time
import ray
from ray.cluster_utils import Cluster

settings = json.loads(sys.argv[1])
cluster = Cluster()
cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
os.environ["RAY_ADDRESS"] = cluster.address
wait = [sys.executable, settings["await"], "--seconds"]
early = subprocess.run([*wait, "1", "CPU=1", "decoding=1", "--", "true"], capture_output=True, text=True)
late = subprocess.Popen([*wait, "100", "decoding=1", "--", sys.executable, "-c", "print('begun')"],
                        stdout=subprocess.PIPE, text=True)
time.sleep(2)
before = late.poll()
node = cluster.add_node(num_cpus=1, resources={"decoding": 1}, object_store_memory=100 << 20)
begun, _ = late.communicate(timeout=110)
ray.init(log_to_driver=False)
names = {n["NodeID"]: n for n in ray.nodes()}
(head,) = [name for name, n in names.items() if "decoding" not in n["Resources"]]
(other,) = set(names) - {head}
drained = subprocess.run([*settings["drain"], "--node-id", other], capture_output=True, text=True)
until = time.monotonic() + 60
while {n["NodeID"]: n["Alive"] for n in ray.nodes()} != {head: True, other: False} and time.monotonic() < until:
    time.sleep(0.5)
alive = {n["NodeID"]: n["Alive"] for n in ray.nodes()}
print(json.dumps({"early": [early.returncode, early.stderr], "before": before, "late": [late.returncode, begun],
                  "drained": [drained.returncode, drained.stderr], "alive": [alive[head], alive[other]]}))
ray.shutdown()
cluster.shutdown()
"""


def drain_command():
    """Give what the pods of workers call before they end, as the words of a command."""
    cluster = yaml.safe_load((ROOT / "infra" / "kubernetes" / "base" / "cluster.yaml").read_text())
    (container,) = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    words = shlex.split(container["lifecycle"]["preStop"]["exec"]["command"][-1].partition(";")[0])
    assert words[0] == "ray"
    return [str(Path(sys.executable).parent / "ray"), *words[1:]]


@pytest.mark.ray
@pytest.mark.timeout(280)
def test_a_run_begins_when_its_nodes_have_come_and_a_drained_node_goes():
    settings = json.dumps({"await": str(AWAIT), "drain": drain_command()})
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", SCRIPT, settings]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    code, said = told["early"]
    assert code == 1
    assert re.search(r"not enough after 1 s \(decoding: 0 of 1\)", said)
    assert told["before"] is None
    assert told["late"] == [0, "begun\n"]
    assert told["drained"][0] == 0, told["drained"][1]
    assert told["alive"] == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["GPU=1"], "a command is needed after --"),
        (["GPU=1", "--"], "a command is needed after --"),
        (["GPU", "--", "true"], "'GPU' is not NAME=AMOUNT"),
        (["GPU=0", "--", "true"], "an amount above 0"),
        (["--", "true"], "required"),
    ],
)
def test_a_wrong_wait_is_refused_before_ray_is_looked_for(words, said):
    done = subprocess.run([sys.executable, AWAIT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
