"""A corpus made on the spot, and fingerprints of what was made from it; shared by the end-to-end tests."""

import hashlib
from pathlib import Path

import numpy as np
import soundfile


def write_corpus(folder, num_files=14):
    """Write tones in noise, 0.4 to 3 s: 16 kHz and 22.05 kHz, one stereo, one with an odd name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(num_files):
        rate = 22050 if number % 4 == 3 else 16000
        time = np.arange(int(rate * rng.uniform(0.4, 3.0))) / rate
        tone = 0.3 * np.sin(2 * np.pi * (100 + 50 * number) * time * (1 + 0.2 * time))
        audio = tone + 0.05 * rng.standard_normal(len(time))
        name = "Gru\u00df an [M\u00fcller] & Co.wav" if number == 5 else f"{number:03d}.wav"
        soundfile.write(folder / name, np.stack([audio, -0.5 * audio], 1) if number == 7 else audio, rate)
    return folder


def data_bytes(folder):
    """Hash every data file of a dataset: what a plain reader of the folder sees."""
    files = [p for p in Path(folder).rglob("*") if p.is_file() and not p.relative_to(folder).parts[0].startswith("_")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
