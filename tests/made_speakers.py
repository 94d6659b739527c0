"""Two voices made on the spot and the speaker encoder that tells them apart; tests that need it are skipped without."""

import shutil
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import soundfile
import torch
from made_tokens import CLOCK, Made, write_manifest, write_tokens
from made_voices import voice

from pipeline.metrics.speech.speaker import WEIGHTS, speaker_library

HERTZ = {"ann": 215.0, "bob": 105.0}
SILENT, SHORT = "u004", "u005"
"""An utterance of zeros, of ann, and one of 0.4 s, of bob."""


def speaker_encoder():
    """Say which speaker encoder is installed."""
    try:
        distribution("resemblyzer")
    except PackageNotFoundError:
        pytest.skip("no Resemblyzer here: pip install --no-deps resemblyzer==0.1.4")
    return speaker_library()


def write_other_encoder(folder):
    """Write a release of the speaker encoder whose weights are others, to be found before the one that is installed."""
    info = folder / "resemblyzer-0.1.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resemblyzer\nVersion: 0.1.9\n")
    target = folder / WEIGHTS
    target.parent.mkdir()
    shutil.copy(distribution("resemblyzer").locate_file(WEIGHTS), target)
    state = torch.load(target, map_location="cpu", weights_only=True)
    state["model_state"]["linear.bias"] += 0.25
    torch.save(state, target)
    return folder


def write_two_voices(folder, count=20, *, named=True, columns=("layer_02", "layer_04", "layer_06")):
    """Write recordings of ann and bob in turns; tokens say how loud each frame is. Gives the waveforms by id."""
    (folder / "audio").mkdir(parents=True)
    made, labels, rng = [], {}, np.random.default_rng(5)
    for number in range(count):
        name, who = f"u{number:03d}", list(HERTZ)[number % 2]
        seconds = 0.4 if name == SHORT else float(rng.uniform(1.0, 1.6))
        waveform = voice(seconds, hertz=HERTZ[who], seed=number)
        if name == SILENT:
            waveform = np.zeros_like(waveform)
        path = folder / "audio" / f"{name}.flac"
        soundfile.write(path, waveform, 16_000)
        made.append(Made(name, str(path), waveform, 16_000, _loudness(waveform)))
        labels[name] = {"speaker": who, "text": "la"} if named else {}
    manifest = write_manifest(folder / "manifest", made, labels=labels)
    digest = manifest.store.read("_SUCCESS").decode().split('"dataset_sha256":"')[1][:64]
    write_tokens(folder / "tokens", made, input_sha256=digest, columns=columns)
    return {one.utterance_id: soundfile.read(one.path, dtype="float32")[0] for one in made}


def _loudness(waveform):
    frames = np.arange(CLOCK.num_frames(len(waveform)))[:, None] * CLOCK.hop_length + np.arange(CLOCK.hop_length)
    levels = np.sqrt(np.mean(np.square(waveform[frames]), axis=1))
    return np.minimum(7, levels / 0.015).astype(np.uint16)
