"""Texts, task and vocoder on S3: trained there as on disk, and speech that was killed gone on with there."""

import json

import s3fs
from made_kills import KILLED, in_child
from made_tasks import task_config
from made_tts import BY_HEART, write_tts

from pipeline.store.dataset import Dataset
from pipeline.store.storage import open_store
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.stage import speak
from pipeline.tasks.stage import train_task

HALF = {"num_steps": 100, "checkpoint_every": 100}
"""Fewer steps than learning by heart takes: some texts are spoken, others may not stop and are rejects."""


def config_of(root, output):
    given = {"bundle": str(root), "text_file": f"{root}/texts.jsonl", "output": str(output)}
    return SpeakConfig.of(texts_per_shard=3, temperature=0.0, max_reject_fraction=1, runner="here", **given)


def files(uri):
    store = open_store(str(uri))
    return {name: store.read(name) for name in store.names() if name.startswith(("shard-", "_rejects/"))}


def test_on_s3_a_text_to_speech_is_trained_and_speaks_as_on_disk(bucket, tmp_path):
    labels = write_tts(tmp_path, **HALF)
    lines = [{"utterance_id": name, "text": told["text"]} for name, told in labels.items()]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name in ("manifest", "tokens", "vocoder", "texts.jsonl"):
        s3fs.S3FileSystem().put(str(tmp_path / name), f"corpus/{name}", recursive=True)
    train_task(task_config(bucket, f"{bucket}/tts", "tts", **BY_HEART | HALF))
    weights = [open_store(f"{root}/tts").read("model.safetensors") for root in (bucket, tmp_path)]
    assert weights[0] == weights[1]

    speak(config_of(tmp_path, tmp_path / "out"))
    config = config_of(bucket, f"{bucket}/out")
    fault = {"point": "after_data_before_commit", "match": "shard-00002", "action": "kill"}
    assert in_child(speak, config, [fault]).code == KILLED
    committed = len(Dataset.open(f"{bucket}/out", finished=False).commits())
    report = speak(config)
    assert report.rows
    assert report.rows + report.rejects == len(lines)
    assert report.units_done_now == 3 - committed
    assert len(files(f"{bucket}/out")) >= 3
    assert files(f"{bucket}/out") == files(tmp_path / "out")
