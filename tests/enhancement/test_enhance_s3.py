"""Pairs, task, vocoder and speech on S3: trained, evaluated and enhanced there as on disk, and gone on with there."""

import json

import s3fs
from made_enhancement import enhance_config, hardly_trained, se_config, write_spoken_pairs
from made_kills import KILLED, in_child
from made_speech import LENGTHS

from pipeline.enhancement.stage import enhance
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.dataset import Dataset
from pipeline.store.storage import open_store
from pipeline.tasks.stage import train_task


def shards(uri):
    store = open_store(uri)
    return {name: store.read(name) for name in store.names() if name.startswith("shard-")}


def test_on_s3_a_task_is_trained_evaluated_and_used_as_on_disk(bucket, tmp_path):
    write_spoken_pairs(tmp_path)
    for name in ("noisy/manifest", "noisy/tokens", "clean/manifest", "clean/tokens", "bundle/vocoder"):
        s3fs.S3FileSystem().put(str(tmp_path / name), f"corpus/{name}", recursive=True)
    hardly_trained(bucket, f"{bucket}/bundle/se")
    weights = [open_store(f"{root}/bundle/se").read("model.safetensors") for root in (bucket, tmp_path)]
    assert weights[0] == weights[1]

    sides = {"train_splits": ("test",), "test_splits": (), "valid_fraction": 0.0, "test_fraction": 0.3}
    short = {"num_steps": 1, "warmup_steps": 0, "validate_every": 0}
    for root in (bucket, str(tmp_path)):
        train_task(se_config(root, f"{root}/judged", **sides, **short))
        evaluate(EvaluateConfig.of(model=f"{root}/judged", output=f"{root}/test"))
    figures = [json.loads(open_store(f"{root}/test").read("metrics.json"))["sides"] for root in (bucket, tmp_path)]
    assert figures[0] == figures[1]

    enhance(enhance_config(tmp_path, tmp_path / "out"))
    there = {"tokens": f"{bucket}/noisy/tokens", "bundle": f"{bucket}/bundle"}
    config = enhance_config(tmp_path, f"{bucket}/out", **there)
    fault = {"point": "after_data_before_commit", "match": "shard-00002", "action": "kill"}
    assert in_child(enhance, config, [fault]).code == KILLED
    committed = len(Dataset.open(f"{bucket}/out", finished=False).commits())
    report = enhance(config)
    assert (report.rows, report.rejects) == (len(LENGTHS), 0)
    assert report.units_done_now == 3 - committed
    assert len(shards(f"{bucket}/out")) == 3
    assert shards(f"{bucket}/out") == shards(str(tmp_path / "out"))
