"""infra/s3: a whole run with only the rights of the policy; each right is needed; a failed upload is taken back."""

import copy
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import s3fs
from made_corpus import write_corpus
from made_policies import PolicedServer, Wish, allows, read_policy, wishes

from pipeline.errors import StorageError
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "s3"
NAMES = {"CORPUS_BUCKET": "corpus", "OUTPUT_BUCKET": "results", "OUTPUT_PREFIX": "runs"}
POLICY = read_policy(FOLDER / "policy.json", **NAMES)
RIGHTS = [(s["Sid"], action) for s in POLICY["Statement"] for action in s["Action"]]
OF_A_FAILED_UPLOAD = ("KeepDatasets", "s3:AbortMultipartUpload")


def without(sid, action):
    policy = copy.deepcopy(POLICY)
    for statement in policy["Statement"]:
        if statement["Sid"] == sid:
            statement["Action"].remove(action)
    return policy


@pytest.fixture(scope="module")
def server(bucket, small_encoder, tmp_path_factory):
    """A server that obeys the policy, with a corpus and an encoder in one bucket and nothing in the other."""
    folder = tmp_path_factory.mktemp("inputs")
    write_corpus(folder / "audio", num_files=6)
    shutil.copytree(small_encoder(kind="hubert", stem="group", stable=False), folder / "encoder")
    for name in ("audio", "encoder"):
        s3fs.S3FileSystem().put(str(folder / name), f"corpus/{name}", recursive=True)
    direct = os.environ["AWS_ENDPOINT_URL"]
    urllib.request.urlopen(urllib.request.Request(f"{direct}/results", method="PUT"), timeout=5).close()
    policed = PolicedServer(direct, POLICY)
    policed.direct = direct
    os.environ["AWS_ENDPOINT_URL"] = policed.url
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield policed
    finally:
        policed.close()


@pytest.fixture(autouse=True)
def fresh(server):
    server.policy, server.used, server.denied = POLICY, [], []
    server.broken = lambda method, target: False


def run(name):
    config = RunPipelineConfig.of(
        corpus="s3://corpus/audio",
        layout="folder",
        encoder="s3://corpus/encoder",
        output=f"s3://results/runs/{name}",
        layers=(1, 3),
        num_clusters=8,
        max_iterations=4,
        shard_minutes=0.1,
        runner="here",
    )
    return [stage.rows for stage in run_pipeline(config).stages]


def test_a_whole_run_needs_no_more_than_the_policy_grants(server):
    assert run("whole") == [6, 6, 16, 6]
    assert server.denied == []
    assert verify_dataset(VerifyDatasetConfig(dataset="s3://results/runs/whole/tokens")).faults == []
    used = {(wish.action, wish.on.partition("/")[0]) for wish in server.used}
    asked = {("s3:ListBucket", "corpus"), ("s3:GetObject", "corpus"), ("s3:ListBucket", "results")}
    assert used == asked | {(f"s3:{verb}Object", "results") for verb in ("Get", "Put", "Delete")}


@pytest.mark.nightly
@pytest.mark.ray
def test_a_run_on_ray_needs_no_more_either(server):
    command = [sys.executable, "jobs/run_pipeline.py", "--runner", "ray", "--ray-address", "local"]
    command += ["--corpus", "s3://corpus/audio", "--layout", "folder", "--encoder", "s3://corpus/encoder"]
    command += ["--output", "s3://results/runs/ray", "--layers", "1", "3", "--num-clusters", "8"]
    command += ["--max-iterations", "4", "--shard-minutes", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert server.denied == []
    assert [stage["rows"] for stage in json.loads(done.stdout.splitlines()[-1])["stages"]] == [6, 6, 16, 6]


@pytest.mark.parametrize(("sid", "action"), [right for right in RIGHTS if right != OF_A_FAILED_UPLOAD])
def test_a_run_fails_when_a_right_is_missing(server, sid, action):
    server.policy = without(sid, action)
    with pytest.raises(Exception, match=r"(?i)denied|forbidden"):
        run(f"without-{sid}-{action[3:]}")
    assert {wish.action for wish in server.denied} == {action}


def test_nothing_is_written_outside_the_prefix_or_into_the_corpus(server):
    for place in ("s3://results/elsewhere", "s3://results/runs2", "s3://corpus/audio"):
        with pytest.raises(StorageError, match="denied|Denied"):
            open_store(place).write("x", b"1")


def unfinished(server):
    with urllib.request.urlopen(f"{server.direct}/results?uploads", timeout=5) as answer:
        return answer.read().decode().count("<UploadId>")


@pytest.mark.parametrize("granted", [True, False])
def test_an_upload_in_parts_that_fails_is_taken_back(server, monkeypatch, granted):
    monkeypatch.setattr("pipeline.store.s3_store.PART_BYTES", 5 << 20)
    before = unfinished(server)
    server.broken = lambda method, target: "partNumber=2" in target
    server.policy = POLICY if granted else without(*OF_A_FAILED_UPLOAD)
    store = open_store("s3://results/runs/parts")
    with pytest.raises(StorageError, match=r"write s3://results/runs/parts/large.*[Dd]enied"):
        store.write("large", bytes(12 << 20))
    assert not store.exists("large")
    assert unfinished(server) == before + (0 if granted else 1)
    assert [wish.action for wish in server.denied] == ([] if granted else ["s3:AbortMultipartUpload"])


def test_a_request_or_a_condition_that_is_not_understood_is_no_right():
    for method, target in (("PUT", "/b"), ("PUT", "/b/k?tagging"), ("GET", "/b?acl"), ("POST", "/b/k?restore")):
        with pytest.raises(AssertionError, match="not understood"):
            wishes(method, target, {}, b"")
    assert wishes("GET", "/b?list-type=2", {}, b"") == [Wish("s3:ListBucket", "b")]
    conditional = copy.deepcopy(POLICY)
    conditional["Statement"][0]["Condition"] = {}
    with pytest.raises(AssertionError, match="Condition"):
        allows(conditional, Wish("s3:ListBucket", "corpus"))


def test_unfinished_uploads_of_the_prefix_end_and_nothing_else_does():
    (rule,) = json.loads((FOLDER / "lifecycle.json").read_text())["Rules"]
    assert set(rule) == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}
    assert rule["Filter"] == {"Prefix": "OUTPUT-PREFIX/"}
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] >= 1
