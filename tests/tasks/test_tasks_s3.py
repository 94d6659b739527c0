"""A task with everything on S3: killed while it writes a checkpoint, gone on with from there, evaluated there."""

import json

import pyarrow.parquet as pq
import pytest
import s3fs
from made_kills import KILLED, in_child
from made_tasks import task_config, write_task_corpus

from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.stage import train_task
from pipeline.training.checkpoint import latest


@pytest.fixture(scope="module")
def folder(bucket, tmp_path_factory):
    """A corpus on disk; its manifest and tokens are in the bucket too."""
    root = tmp_path_factory.mktemp("tasks")
    write_task_corpus(root)
    for name in ("manifest", "tokens"):
        s3fs.S3FileSystem().put(str(root / name), f"corpus/{name}", recursive=True)
    return root


def test_a_task_on_s3_that_was_killed_goes_on_there_and_ends_as_one_on_disk(bucket, folder, tmp_path):
    expected = train_task(task_config(folder, tmp_path / "out", "sid"))
    there = {name: f"{bucket}/{name}" for name in ("manifest", "tokens")}
    config, store = task_config(folder, f"{bucket}/out", "sid", **there), open_store(f"{bucket}/out")
    fault = {"point": "after_checkpoint_optimizer", "match": "step-00000004", "action": "kill"}
    assert in_child(train_task, config, [fault]).code == KILLED
    # The third step was validated, and was the best so far.
    assert latest(store) == 3
    assert store.exists("_checkpoints/step-00000004/optimizer.model.safetensors")

    found = train_task(config)
    assert (found.num_steps, found.kept_step, found.metrics) == (6, expected.kept_step, expected.metrics)
    for name in ("metrics.jsonl", "model.safetensors", "fuser.safetensors", "config.json"):
        assert store.read(name) == (tmp_path / "out" / name).read_bytes()
    # Events of TensorBoard of both starts were copied there.
    assert len(store.names("tensorboard")) == 2
    # SeaweedFS names a folder that has become empty.
    assert [name for name in store.tree("_checkpoints") if "/" in name] == []
    assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/out")).faults == []

    tests = f"{bucket}/test", str(tmp_path / "test")
    for model, output in zip((f"{bucket}/out", str(tmp_path / "out")), tests, strict=True):
        evaluate(EvaluateConfig.of(model=model, output=output))
    figures = [json.loads(open_store(uri).read("metrics.json")) for uri in tests]
    assert figures[0]["sides"] == figures[1]["sides"]
    rows = [pq.read_table(open_store(uri).open("utterances.parquet")) for uri in tests]
    assert rows[0].num_rows == 8
    assert rows[0].equals(rows[1])
