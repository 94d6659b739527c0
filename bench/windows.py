"""Measure how far encoding in windows agrees with full context, for several windows and margins.

    python bench/windows.py --audio data/LibriSpeech [--size small|base] [--windows 15 30 60] [--margins 0.5 1 2 4]

Utterances of one folder are joined to excerpts of 2 to 5 minutes. A random network of each kind of norm gives
features in one piece and in windows; centroids are random frames of the former. Prints a Markdown table: the share of
equal tokens a layer, and the seconds encoded for a second of audio. Networks that have learned nothing attend evenly,
so they lean on far context more than trained ones.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.features.passes.device import EncodeLog  # noqa: E402
from pipeline.features.passes.extractor import FeatureExtractor  # noqa: E402
from pipeline.kmeans.search.assignment import nearest  # noqa: E402

RATE = 16_000
KINDS = {
    "HuBERT, group norm": ("Hubert", {"feat_extract_norm": "group", "do_stable_layer_norm": False}),
    "HuBERT, layer norm after": ("Hubert", {"feat_extract_norm": "layer", "do_stable_layer_norm": False}),
    "HuBERT, layer norm before": ("Hubert", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "WavLM, layer norm before": ("WavLM", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
}
SIZES = {
    "small": {
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "conv_dim": [64] * 7,
    },
    "base": {},
}
LAYERS = {"small": (2, 4, 6), "base": (6, 9, 12)}


def excerpts(folder: Path, count: int, seconds: Sequence[float]) -> list[np.ndarray]:
    """Join the FLAC files below a folder, in order, to excerpts of the lengths given in turn."""
    files = iter(sorted(folder.rglob("*.flac")))
    found = []
    for number in range(count):
        wanted, parts = round(seconds[number % len(seconds)] * RATE), []
        while sum(map(len, parts)) < wanted:
            parts.append(soundfile.read(next(files), dtype="int16")[0])
        found.append(np.concatenate(parts)[:wanted])
    return found


def write_encoder(folder: Path, kind: str, size: str) -> None:
    """Write a random network with its preprocessor."""
    import torch
    import transformers

    family, norm = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**SIZES[size], **norm)
        getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    preprocessor = {"do_normalize": norm["feat_extract_norm"] == "layer", "sampling_rate": RATE}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def tokens_of(
    features: Sequence[Mapping[int, np.ndarray]], centroids: Mapping[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """Quantise excerpts; by layer (T,) of all excerpts."""
    return {
        layer: np.concatenate([nearest(found[layer], table).tokens for found in features])
        for layer, table in centroids.items()
    }


def table(kind: str, given: argparse.Namespace, audio: Sequence[np.ndarray]) -> None:
    """Print the rows of one kind of network."""
    layers = LAYERS[given.size]
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(Path(folder), kind, given.size)
        settings = {"encoder": folder, "layers": layers, "threads": given.threads}
        whole = FeatureExtractor(**settings).alone().extract(audio)
        rng = np.random.default_rng(0)
        centroids = {}
        for layer in layers:
            frames = np.concatenate([found[layer] for found in whole])
            centroids[layer] = frames[rng.permutation(len(frames))[: given.clusters]].astype(np.float32)
        expected = tokens_of(whole, centroids)
        for window in given.windows:
            for margin in given.margins:
                log = EncodeLog()
                machine = FeatureExtractor(**settings, window_seconds=window, window_margin_seconds=margin)
                found = tokens_of(machine.extract(audio, log), centroids)
                shares = " | ".join(f"{100 * np.mean(found[layer] == expected[layer]):.1f}" for layer in layers)
                cost = log.samples / sum(map(len, audio))
                print(f"| {kind} | {window:g} | {margin:g} | {shares} | {cost:.2f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help="a folder with FLAC files of 16 kHz")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="size of the networks")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of networks")
    parser.add_argument("--windows", nargs="+", type=float, default=[15, 30, 60], help="seconds of a window")
    parser.add_argument("--margins", nargs="+", type=float, default=[0.5, 1, 2, 4], help="seconds of a margin")
    parser.add_argument("--seconds", nargs="+", type=float, default=[120, 300], help="lengths of excerpts, in turn")
    parser.add_argument("--excerpts", type=int, default=2, help="number of excerpts")
    parser.add_argument("--clusters", type=int, default=500, help="K")
    parser.add_argument("--threads", type=int, default=1, help="compute threads")
    given = parser.parse_args()
    audio = excerpts(given.audio, given.excerpts, given.seconds)
    columns = " | ".join(f"layer {layer}" for layer in LAYERS[given.size])
    print(f"| network | window (s) | margin (s) | {columns} | encoded s / s |")
    print("|---|---|---|---|---|---|---|")
    for kind in given.kinds:
        table(kind, given, audio)


if __name__ == "__main__":
    main()
