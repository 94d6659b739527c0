import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import s3fs

KINDS = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel"),
    "data2vec-audio": ("Data2VecAudioConfig", "Data2VecAudioModel"),
    "wav2vec2-conformer": ("Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel"),
    "wav2vec2-bert": ("Wav2Vec2BertConfig", "Wav2Vec2BertModel"),
}
# What these kinds call otherwise, or have not.
OTHERWISE = {"data2vec-audio": {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}}


@pytest.fixture(scope="session")
def speech_root():
    root = Path(os.environ.get("STRATA_TEST_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
    if not root.is_dir():
        pytest.skip("no real speech here; set STRATA_TEST_DATA")
    return root


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for all tests of this process; never one that runs on the machine already."""
    import ray

    os.environ["RAY_ADDRESS"] = "local"
    from pipeline.executor import connect

    connect()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory):
    """Write a small random encoder in Hugging Face form and give its folder."""

    def write(
        kind="hubert", stem="layer", stable=True, file_format="safetensors", num_layers=4, width=48, seed=0, **overrides
    ):
        import torch
        import transformers

        config_class, model_class = (getattr(transformers, name) for name in KINDS[kind])
        settings = {
            "hidden_size": width,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 4,
            "intermediate_size": 2 * width,
            "conv_dim": [32] * 7,
            "num_conv_pos_embeddings": 32,
            "num_conv_pos_embedding_groups": 4,
            "feat_extract_norm": stem,
            "do_stable_layer_norm": stable,
        } | OTHERWISE.get(kind, {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = model_class(config_class(**settings | overrides))
        folder = tmp_path_factory.mktemp(f"{kind}-{stem}")
        model.save_pretrained(folder)
        if file_format == "bin":
            write_old_bin(folder, model)
        preprocessor = {"do_normalize": stem == "layer", "sampling_rate": 16000}
        if kind == "wav2vec2-bert":
            preprocessor = {"num_mel_bins": 80, "stride": 2, "sampling_rate": 16000}
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return str(folder)

    return write


def write_old_bin(folder, model):
    """Replace the safetensors by a .bin whose weight norm has the names of torch before 2.0."""
    import torch

    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = model.state_dict()
    for new, old in names.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def free_port():
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return probe_socket.getsockname()[1]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An S3 server on loopback with one bucket, ended with the module."""
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    folder = tmp_path_factory.mktemp("s3")
    master, volume, filer, s3 = (free_port() for _ in range(4))
    command = [weed, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
    for name in ("master", "volume", "filer", "s3"):
        command.append(f"-{name}.port.grpc={free_port()}")
    # They would listen on fixed ports, where another test process has its own server.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-volume.max=50", "-master.volumeSizeLimitMB=64"]
    server = subprocess.Popen(command, stdout=(folder / "log").open("w"), stderr=subprocess.STDOUT)
    old = dict(os.environ)
    os.environ.update(
        AWS_ACCESS_KEY_ID="any",
        AWS_SECRET_ACCESS_KEY="any",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{s3}",
        AWS_DEFAULT_REGION="us-east-1",
    )
    try:
        _make_bucket(f"http://127.0.0.1:{s3}/corpus", server)
        yield "s3://corpus"
    finally:
        server.kill()
        server.wait(20)
        os.environ.clear()
        os.environ.update(old)
        # fsspec keeps one instance for equal arguments, and its endpoint came from the environment.
        s3fs.S3FileSystem.clear_instance_cache()


def _make_bucket(url, server):
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
            return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
