"""Folds on S3: the same figures and rows as on disk."""

import json

import pyarrow.parquet as pq
import pytest
import s3fs
from made_tasks import SMALL, write_task_corpus

from pipeline.cross_validation.settings import CrossValidateConfig
from pipeline.cross_validation.stage import cross_validate
from pipeline.status import run_status
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset


def two_speakers(labels):
    return labels | {"speaker": "one" if labels["speaker"] in ("s0", "s1") else "two"}


@pytest.fixture(scope="module")
def corpus(bucket, tmp_path_factory):
    """A corpus of two speakers, in the bucket; its recordings are on disk."""
    root = tmp_path_factory.mktemp("folds_s3")
    write_task_corpus(root, 16, change=two_speakers)
    for name in ("manifest", "tokens"):
        s3fs.S3FileSystem().put(str(root / name), f"folds/{name}", recursive=True)
    return root


def test_folds_on_s3_are_those_on_disk(bucket, corpus, tmp_path):
    short = {**SMALL, "examples": 0, "num_steps": 3, "checkpoint_every": 3}
    there = bucket.replace("corpus", "folds")
    found = {}
    for root, output in ((str(corpus), str(tmp_path / "er")), (there, f"{there}/er")):
        inputs = {name: f"{root}/{name}" for name in ("manifest", "tokens")}
        cross_validate(CrossValidateConfig.of(task="er", output=output, **{**short, **inputs}))
        store = open_store(output)
        rows = pq.read_table(store.open("utterances.parquet"))
        found[output] = rows.to_pylist(), json.loads(store.read("metrics.json"))["sides"]
        assert rows.num_rows == 16
        assert verify_dataset(VerifyDatasetConfig(dataset=output)).faults == []
        assert all(state.finished for state in run_status(output))
    first, second = found.values()
    assert first == second
