"""The encoder that ships: it is there, small, what its codebooks were fitted on, and in the wheel."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import EncoderError
from pipeline.features.encoders import shipped
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import describe
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.tokens.quantize import quantize

ROOT = Path(__file__).resolve().parents[3]
CODEBOOK_FILES = sorted((shipped.FOLDER / shipped.CODEBOOKS).glob("layer_*.safetensors"))


def speech(seconds=2.0, seed=0):
    """Make a voice that says nothing: harmonics whose loudness changes every tenth of a second, and hiss between."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * time)) / 16_000
    piece = (time * 10).astype(int)
    loud = np.exp(rng.normal(-2, 1.5, (piece[-1] + 1, 30)))
    voiced = sum(loud[piece, k - 1] * np.sin(k * phase) for k in range(1, 31))
    hiss = rng.standard_normal(len(time)) * np.where(piece % 3 == 2, 0.3, 0.01)
    return (0.2 * voiced + hiss).astype(np.float32)


def test_its_weights_take_at_most_8_mb():
    assert (shipped.FOLDER / "model.safetensors").stat().st_size <= 8_000_000


def test_it_has_50_frames_a_second_of_16_khz_and_may_be_padded():
    info = describe(shipped.NAME)
    assert (info.sample_rate, info.frame_rate, info.hop_length) == (16_000, 50, 320)
    assert info.clock.num_frames(16_000) == (16_000 - 400) // 320 + 1
    assert info.can_pad


def test_transformers_opens_it_and_gives_the_same_layers():
    import torch
    from transformers import HubertModel

    waveform = speech()
    network = HubertModel.from_pretrained(shipped.FOLDER, dtype=torch.float32).eval()
    normal = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.no_grad():
        states = network(torch.from_numpy(normal)[None], output_hidden_states=True).hidden_states
    ours = SslEncoder.from_pretrained(shipped.NAME, layers=[2, 5]).encode([waveform])[0]
    for place, layer in enumerate((2, 5)):
        truth = states[layer][0].numpy()
        assert np.abs(ours[place].astype(np.float32) - truth).max() < 0.01 * np.abs(truth).max()


def test_at_least_three_layers_have_codebooks_of_100_and_500_clusters():
    found = [Codebook.from_bytes(path.read_bytes(), path.name) for path in CODEBOOK_FILES]
    for num_clusters in (100, 500):
        assert len({book.layer for book in found if book.num_clusters == num_clusters}) >= 3


@pytest.mark.parametrize("path", CODEBOOK_FILES, ids=lambda path: path.stem)
def test_each_codebook_was_fitted_on_it_and_has_a_card(path):
    book = Codebook.from_bytes(path.read_bytes(), path.name)
    assert book.encoder == describe(shipped.NAME).weights_sha256
    card = json.loads((path.parent / "_cards" / f"{path.stem}.json").read_text())
    assert book.sha256 in json.dumps(card)


def test_its_name_stands_for_its_codebooks_and_their_tokens_change_with_the_sound():
    books = read_codebooks(shipped.NAME, (2, 4, 6), 100)
    encoder = SslEncoder.from_pretrained(shipped.NAME, layers=[2, 4, 6])
    for seed in range(2):
        features = encoder.encode([speech(seed=seed)])[0].astype(np.float16)
        tokens = quantize(dict(zip((2, 4, 6), features, strict=True)), books).tokens
        assert all(len(np.unique(found)) > 5 for found in tokens.values())


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / shipped.NAME).mkdir()
    with pytest.raises(EncoderError, match=r"holds no config\.json"):
        describe(shipped.NAME)


def test_the_wheel_holds_it(tmp_path):
    for name in ("pipeline", "jobs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-c", "from setuptools.build_meta import build_wheel as b; b('out')"]
    subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    (wheel,) = (tmp_path / "out").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in shipped.FOLDER.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {str(path.relative_to(ROOT)) for path in files} - held == set()


def test_threads_that_load_the_first_encoder_of_a_process_at_once_all_get_one():
    script = (
        "import threading\n"
        "from pipeline.features.encoders.encoder import SslEncoder\n"
        "gate, found = threading.Barrier(4), []\n"
        "def load():\n"
        "    gate.wait()\n"
        "    found.append(SslEncoder.from_pretrained('encoder-small', layers=[2]).dim)\n"
        "threads = [threading.Thread(target=load) for _ in range(4)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "print(found)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[192, 192, 192, 192]\n", run.stderr
