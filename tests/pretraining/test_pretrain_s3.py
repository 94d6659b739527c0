"""Training with everything on S3: a checkpoint that was being written when the worker died is not gone on from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_tokens import write_corpus_of_tones

from pipeline.faults import VARIABLE
from pipeline.features.encoder import SslEncoder
from pipeline.storage import open_store
from pipeline.training.checkpoint import latest
from pipeline.verification import VerifyDatasetConfig, verify_dataset

ROOT = Path(__file__).parents[2]
FLAGS = (
    *("--num-steps=6", "--warmup-steps=1", "--head=linear", "--batch-seconds=3", "--batches-per-step=2"),
    *("--crop-seconds=1", "--valid-fraction=0.2", "--validate-every=3", "--checkpoint-every=2", "--log-every=1"),
    *("--num-workers=2", "--threads-per-worker=1", "--ray-address", "local"),
)


def train(folder, encoder, output, *flags, **environment):
    """Run the job as people do, in a process whose Ray gets the credentials from its environment."""
    given = {"manifest": f"{folder}/manifest", "tokens": f"{folder}/tokens", "output": output}
    words = [f"--{name}={value}" for name, value in {**given, "init-encoder": encoder}.items()]
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "pretrain_encoder.py"), *words, *FLAGS, *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_s3_that_was_killed_while_it_wrote_a_checkpoint_ends_as_one_on_disk(bucket, small_encoder, tmp_path):
    import s3fs

    write_corpus_of_tones(tmp_path, [0.6 + 0.1 * number for number in range(12)])
    encoder = small_encoder(kind="hubert", num_layers=2, width=24, conv_dim=[12] * 7, num_conv_pos_embeddings=16)
    done = train(tmp_path, encoder, tmp_path / "encoder")
    assert done.returncode == 0, done.stderr

    fs = s3fs.S3FileSystem()
    for name in ("manifest", "tokens"):
        fs.put(str(tmp_path / name), f"corpus/{name}", recursive=True)
    fs.put(encoder, "corpus/first", recursive=True)
    output, store = f"{bucket}/encoder", open_store(f"{bucket}/encoder")
    fault = {"point": "after_checkpoint_optimizer", "match": "step-00000004", "action": "kill"}
    killed = train(bucket, f"{bucket}/first", output, "--max-failures=0", **{VARIABLE: json.dumps([fault])})
    assert killed.returncode == 1, killed.stderr
    assert "run the same command to go on" in killed.stderr
    assert latest(store) == 2
    assert store.exists("_checkpoints/step-00000004/optimizer.safetensors")

    done = train(bucket, f"{bucket}/first", output)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "metrics.jsonl"):
        assert store.read(name) == (tmp_path / "encoder" / name).read_bytes()
    # TensorBoard's events of both starts were copied there.
    assert len(store.names("tensorboard")) == 2
    # SeaweedFS names a folder that has become empty.
    left = [*store.tree("_checkpoints"), *store.tree("_ray_train")]
    assert [name for name in left if "/" in name] == []
    assert verify_dataset(VerifyDatasetConfig(dataset=output)).faults == []
    assert SslEncoder.from_pretrained(output, layers=(2,)).dim == 24
