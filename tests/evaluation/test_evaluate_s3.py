"""evaluate where nothing is local: recordings, manifest, tokens, model, output and table are on S3."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import s3fs
from made_tasks import COLUMNS, task_config, write_task_datasets
from made_tokens import speak

from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.stage import train_task


def test_an_evaluation_on_s3_is_the_one_of_local_folders(bucket, tmp_path):
    spoken = speak(tmp_path / "audio", np.random.default_rng(5).uniform(0.6, 1.8, 16))
    store = s3fs.S3FileSystem()
    made = []
    for one in spoken:
        uri = f"{bucket}/audio/{Path(one.path).name}"
        store.pipe(uri, Path(one.path).read_bytes())
        made.append(replace(one, path=uri))
    write_task_datasets(bucket, made)
    write_task_datasets(tmp_path, spoken)
    for place in (bucket, str(tmp_path)):
        train_task(task_config(place, f"{place}/asr", "asr", num_steps=2, validate_every=2))
        evaluate(EvaluateConfig.of(model=f"{place}/asr", output=f"{place}/test", examples=2))
    there, here = (open_store(f"{place}/test") for place in (bucket, str(tmp_path)))
    assert there.read("layer_use.json") == here.read("layer_use.json")
    figures = [json.loads(store.read("metrics.json")) for store in (there, here)]
    # Manifests name their recordings, and so differ.
    assert figures[0]["sides"] == figures[1]["sides"]
    use = json.loads(there.read("layer_use.json"))
    assert [example["recording"]["reason"] for example in use["examples"]] == [None, None]
    assert [name for name in there.names() if name.endswith(".png")] == [n for n in here.names() if n.endswith(".png")]
    assert there.read("index.html").startswith(b"<!DOCTYPE html>")
    assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/test")).faults == []
    again = evaluate(EvaluateConfig.of(model=f"{bucket}/asr", output=f"{bucket}/test", examples=2))
    assert again.silent == {}
    store.rm(f"{bucket}/audio/{use['examples'][0]['utterance_id']}.wav")
    partly = evaluate(EvaluateConfig.of(model=f"{bucket}/asr", output=f"{bucket}/partly", examples=2))
    assert list(partly.silent) == [use["examples"][0]["utterance_id"]]
    assert partly.sides == again.sides
    table = evaluate(EvaluateConfig.of(compare=(f"{bucket}/test", str(tmp_path / "test")), output=f"{bucket}/table"))
    rows = json.loads(open_store(f"{bucket}/table").read("comparison.json"))["rows"]
    assert [row["evaluation"] for row in rows] == [f"{bucket}/test", str(tmp_path / "test")]
    assert [set(row["layer_use"]) for row in table.rows] == [set(COLUMNS)] * 2
    assert b"different manifests" in open_store(f"{bucket}/table").read("comparison.md")
