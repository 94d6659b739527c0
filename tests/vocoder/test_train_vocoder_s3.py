"""train_vocoder with everything on S3: killed while it writes a checkpoint, gone on with from there, spoken with."""

import numpy as np
import pytest
import s3fs
from made_kills import KILLED, in_child
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.errors import CorruptDatasetError
from pipeline.status import run_status
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.training.checkpoint import latest
from pipeline.vocoder.saved import load_vocoder
from pipeline.vocoder.training.stage import train_vocoder

FILES = ("metrics.jsonl", "model.safetensors", "config.json")


@pytest.fixture(scope="module")
def folder(bucket, tmp_path_factory):
    """A corpus on disk; its manifest and tokens are in the bucket too."""
    root = tmp_path_factory.mktemp("vocoder")
    write_corpus_of_tones(root, np.random.default_rng(3).uniform(0.25, 1.4, 24), columns=COLUMNS)
    for name in ("manifest", "tokens"):
        s3fs.S3FileSystem().put(str(root / name), f"corpus/{name}", recursive=True)
    return root


def state_of(output):
    (state,) = run_status(output)
    return state.kind, state.finished


def test_a_vocoder_on_s3_that_was_killed_goes_on_there_and_ends_as_one_on_disk(bucket, folder, tmp_path):
    expected = train_vocoder(vocoder_config(folder, tmp_path / "out"))
    there = {name: f"{bucket}/{name}" for name in ("manifest", "tokens")}
    config, store = vocoder_config(folder, f"{bucket}/out", **there), open_store(f"{bucket}/out")
    # From the second step on there are discriminators, whose optimiser is in the checkpoint too.
    fault = {"point": "after_checkpoint_ema", "match": "step-00000004", "action": "kill"}
    assert in_child(train_vocoder, config, [fault]).code == KILLED
    assert latest(store) == 2
    assert store.names("_checkpoints/step-00000004")
    assert state_of(f"{bucket}/out") == ("vocoder", False)

    found = train_vocoder(config)
    assert (found.num_steps, found.kept_step, found.metrics) == (6, expected.kept_step, expected.metrics)
    for name in FILES:
        assert store.read(name) == (tmp_path / "out" / name).read_bytes(), name
    # Events of TensorBoard of both starts were copied there.
    assert len(store.names("tensorboard")) == 2
    # SeaweedFS names a folder that has become empty.
    assert [name for name in store.tree("_checkpoints") if "/" in name] == []
    assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/out")).faults == []
    assert state_of(f"{bucket}/out") == ("vocoder", True)
    assert load_vocoder(f"{bucket}/out").spec == load_vocoder(str(tmp_path / "out")).spec
    weights = store.read("model.safetensors")
    store.write("model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(CorruptDatasetError, match="model.safetensors is not what was committed"):
        verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/out"))


def test_a_vocoder_of_one_layer_on_s3_is_that_on_disk(bucket, folder, tmp_path):
    there = {name: f"{bucket}/{name}" for name in ("manifest", "tokens")}
    one = {"layers": (6,), "num_steps": 3}
    train_vocoder(vocoder_config(folder, tmp_path / "six", **one))
    report = train_vocoder(vocoder_config(folder, f"{bucket}/six", **one, **there))
    assert report.layers == ("layer_06",)
    store = open_store(f"{bucket}/six")
    for name in FILES:
        assert store.read(name) == (tmp_path / "six" / name).read_bytes(), name
