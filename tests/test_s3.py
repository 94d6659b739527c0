"""The whole path on a real S3 server (SeaweedFS): manifest, features, codebooks and tokens on s3://."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import s3fs
from made_corpus import data_bytes, write_corpus

from pipeline.errors import PlanMismatchError
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.status import run_status
from pipeline.store.storage import open_store, probe
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]


def test_the_store_keeps_its_promises_on_s3(bucket):
    store = open_store(f"{bucket}/store")
    probe(store)
    store.write("a/x", b"1")
    store.write("a/x", b"2")
    store.copy("a/x", "y")
    assert (store.read("y"), store.names("a"), store.names()) == (b"2", ["x"], ["y"])
    assert store.tree("a") == ["a/x"]
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with store.open("y") as file:
        assert file.read() == b"2"
    store.delete_tree("a")
    assert not store.exists("a/x")
    assert store.names("a") == []


def test_large_data_goes_to_s3_and_comes_back_in_parts(bucket, monkeypatch):
    # The smallest part that S3 takes.
    monkeypatch.setattr("pipeline.store.s3_store.PART_BYTES", 5 << 20)
    store = open_store(f"{bucket}/parts")
    data = os.urandom((12 << 20) + 1)
    store.write("large", memoryview(data))
    assert store.read("large") == data
    with store.open_whole("large") as file:
        assert file.read() == data
        assert file.seek(0) == 0
    with pytest.raises(FileNotFoundError):
        store.open_whole("nothing")


def test_of_eight_racing_creators_on_s3_exactly_one_wins(bucket):
    won, barrier = [], threading.Barrier(8)

    def race(number):
        store = open_store(f"{bucket}/race")
        barrier.wait()
        if store.create("_commits/x.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert open_store(f"{bucket}/race").read("_commits/x.json") == str(won[0]).encode()


@pytest.fixture(scope="module")
def inputs(bucket, small_encoder, tmp_path_factory):
    """A corpus and an encoder, on disk and in the bucket; their folder on disk."""
    folder = tmp_path_factory.mktemp("inputs")
    write_corpus(folder / "audio", num_files=8)
    shutil.copytree(small_encoder(kind="hubert", stem="group", stable=False), folder / "encoder")
    for name in ("audio", "encoder"):
        s3fs.S3FileSystem().put(str(folder / name), f"corpus/{name}", recursive=True)
    return folder


def run_job(root, output, layers):
    """Run the job on Ray as people do, in a process whose Ray gets the credentials from its environment."""
    command = [
        *(sys.executable, ROOT / "jobs" / "run_pipeline.py", "--runner", "ray", "--ray-address", "local"),
        *("--corpus", f"{root}/audio", "--layout", "folder", "--encoder", f"{root}/encoder", "--output", output),
        *("--layers", *layers, "--num-clusters", 8, "--max-iterations", 4, "--shard-minutes", 0.1),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=250)
    if done.returncode == 1:
        raise PlanMismatchError(done.stderr)
    assert done.returncode == 0, done.stderr
    return [stage["rows"] for stage in json.loads(done.stdout.splitlines()[-1])["stages"]]


def run_here(root, output, layers):
    config = RunPipelineConfig.of(
        corpus=f"{root}/audio",
        layout="folder",
        encoder=f"{root}/encoder",
        output=str(output),
        layers=layers,
        num_clusters=8,
        max_iterations=4,
        shard_minutes=0.1,
        runner="here",
    )
    return [stage.rows for stage in run_pipeline(config).stages]


@pytest.mark.parametrize("run", [run_here, pytest.param(run_job, marks=pytest.mark.ray)])
def test_a_run_on_s3_gives_the_tokens_of_a_run_on_disk(bucket, inputs, tmp_path, run):
    output = f"{bucket}/{run.__name__}"
    assert run(bucket, output, (1, 3)) == [8, 8, 16, 8]
    assert run_here(inputs, tmp_path / "disk", (1, 3)) == [8, 8, 16, 8]
    for name in ("manifest", "features", "codebooks", "tokens"):
        assert verify_dataset(VerifyDatasetConfig(dataset=f"{output}/{name}")).faults == []
    fs = s3fs.S3FileSystem()
    fs.get(f"{output}/tokens", str(tmp_path / "fetched"), recursive=True)
    fetched, local = (
        {row["utterance_id"]: (row["layer_01"], row["layer_03"]) for row in pq.read_table(folder).to_pylist()}
        for folder in (tmp_path / "fetched", tmp_path / "disk" / "tokens")
    )
    assert fetched == local
    assert len(data_bytes(tmp_path / "fetched")) == len(data_bytes(tmp_path / "disk" / "tokens"))
    assert [state.finished for state in run_status(output)] == [True] * 4
    fs.get(f"{output}/tokenizer", str(tmp_path / "tokenizer"), recursive=True)
    assert Tokenizer.from_pretrained(str(tmp_path / "tokenizer")).layers == (1, 3)
    with pytest.raises(PlanMismatchError, match=r"layers: folder has \[1, 3\]"):
        run(bucket, output, (1, 2))
