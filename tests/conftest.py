import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import s3fs
from made_browser import Browser, find_browser

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


def pytest_configure(config):
    """Hide every Ray that runs on this machine: what the tests start lies in a folder of their own.

    Libraries compute in one thread each, unless a job says otherwise: several processes of tests share the cores, and
    OpenMP's threads would spin while they wait for each other (the tests of the tasks' networks then take 25 times as
    long beside two busy processes).
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("RAY_ADDRESS", None)
    # Short: Ray's sockets lie in it, whose paths hold 107 bytes at most.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="strata-")
    # Ray's workers would else yield to every other process, as to the tests that run beside those on Ray.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it


def pytest_unconfigure(config):
    shutil.rmtree(os.environ.pop("RAY_TMPDIR"), ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Run what needs Ray last: where it runs, the other tests' stages would go to it."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


@pytest.fixture(autouse=True)
def no_ray_in_secret(request):
    """See that tests without the marker ``ray`` start none: their stages choose this process, as small work does."""
    yield
    if request.node.get_closest_marker("ray") is None:
        ray = sys.modules.get("ray")
        assert ray is None or not ray.is_initialized(), "this test started Ray and is not marked so"


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
    from pipeline.work.joining import connect

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


def free_ports(count):
    """Ports that are free now, all different: they are held together until all are known."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_s3(folder):
    """Start an S3 server; gives its process and address."""
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names))
    command = [weed, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    command += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[len(names) :], strict=True)]
    # They would listen on fixed ports, where another test process has its own server.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-volume.max=50", "-master.volumeSizeLimitMB=64"]
    server = subprocess.Popen(command, stdout=(folder / "log").open("w"), stderr=subprocess.STDOUT)
    return server, f"http://127.0.0.1:{ports[3]}"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An S3 server on loopback with one bucket, ended with the module."""
    for attempt in range(3):
        folder = tmp_path_factory.mktemp("s3")
        server, address = start_s3(folder)
        # Another process may have taken one of the ports meanwhile; then the server ends at once.
        if _makes_bucket(f"{address}/corpus", server):
            break
        assert attempt < 2, (folder / "log").read_text()[-2_000:]
    old = dict(os.environ)
    os.environ.update(
        AWS_ACCESS_KEY_ID="any",
        AWS_SECRET_ACCESS_KEY="any",
        AWS_ENDPOINT_URL=address,
        AWS_DEFAULT_REGION="us-east-1",
    )
    # fsspec keeps one instance for equal arguments, and the endpoint of an older one came from another environment.
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield "s3://corpus"
    finally:
        server.kill()
        server.wait(20)
        os.environ.clear()
        os.environ.update(old)
        s3fs.S3FileSystem.clear_instance_cache()


def _makes_bucket(url, server):
    """Make a bucket as soon as the server answers; False where it has ended."""
    deadline = time.monotonic() + 60
    while server.poll() is None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
            return True
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium, for modules that are skipped where there is none; ended with the module."""
    found = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield found
    found.close()
