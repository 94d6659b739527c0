"""Training with everything on S3: a checkpoint that was being written when the worker died is not gone on from."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_tokens import write_corpus_of_tones
from made_training import config_of, run

from pipeline.faults import VARIABLE
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.pretraining.export import encoder_tensors
from pipeline.pretraining.settings import PretrainEncoderConfig
from pipeline.pretraining.stage import prepare
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.training.checkpoint import latest, read_checkpoint
from pipeline.training.publishing import weights_bytes

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "num_steps": 6,
    "warmup_steps": 1,
    "head": "linear",
    "batch_seconds": 3.0,
    "batches_per_step": 2,
    "crop_seconds": 1.0,
    "valid_fraction": 0.2,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "num_workers": 1,
    "threads_per_worker": 1,
}


def train(root, *flags, **environment):
    """Run the job as people do, in a process whose Ray gets the credentials from its environment."""
    given = {name: f"{root}/{name}" for name in ("manifest", "tokens")}
    given |= {"output": f"{root}/encoder", "init_encoder": f"{root}/first", **SETTINGS}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "pretrain_encoder.py"), "--ray-address", "local", *words, *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.ray
def test_a_run_on_s3_that_was_killed_while_it_wrote_a_checkpoint_ends_as_one_on_disk(bucket, small_encoder, tmp_path):
    import s3fs

    write_corpus_of_tones(tmp_path, [0.6 + 0.1 * number for number in range(12)])
    encoder = small_encoder(kind="hubert", num_layers=2, width=24, conv_dim=[12] * 7, num_conv_pos_embeddings=16)
    inputs = {name: str(tmp_path / name) for name in ("manifest", "tokens")}
    config = config_of(PretrainEncoderConfig, output=str(tmp_path / "run"), init_encoder=encoder, **inputs, **SETTINGS)
    expected = run(prepare(config).recipe, config.training, tmp_path / "run")

    fs, store = s3fs.S3FileSystem(), open_store(f"{bucket}/encoder")
    for name, source in (*inputs.items(), ("first", encoder)):
        fs.put(source, f"corpus/{name}", recursive=True)
    fault = {"point": "after_checkpoint_optimizer", "match": "step-00000004", "action": "kill"}
    # In this process, which starts faster; the run then goes on with a worker of Ray.
    killed = train(bucket, "--runner=here", **{VARIABLE: json.dumps([fault])})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert latest(store) == 2
    assert store.exists("_checkpoints/step-00000004/optimizer.model.safetensors")

    done = train(bucket)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in store.read("metrics.jsonl").splitlines()] == expected.history
    wanted = encoder_tensors(read_checkpoint(open_store(str(tmp_path / "run")), 6).weights("model"), "float32")
    assert store.read("model.safetensors") == weights_bytes(wanted)
    # TensorBoard's events of both starts were copied there.
    assert len(store.names("tensorboard")) == 2
    # SeaweedFS names a folder that has become empty.
    left = [*store.tree("_checkpoints"), *store.tree("_ray_train")]
    assert [name for name in left if "/" in name] == []
    assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/encoder")).faults == []
    assert SslEncoder.from_pretrained(f"{bucket}/encoder", layers=(2,)).dim == 24
