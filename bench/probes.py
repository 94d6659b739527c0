"""What the layers of an encoder, and their tokens, tell of digit, speaker, emotion and sex.

    python -m bench.probes --encoder encoder-small --json probes.json --plot probes.png

Logistic regression on the means of four segments of each utterance's features, the same splits for MFCC, for encoders
of the same shape with random weights, and for every layer of the encoder; then the same on bags of tokens, and the
mutual information of tokens with the digit and the speaker of each frame. Seed 0 trains on every training utterance,
the others on bootstrap samples; for random encoders a seed also draws the weights. One thread, about ten minutes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from threadpoolctl import threadpool_limits

from bench.measuring import machine, table, write_json
from bench.probe_plots import draw
from bench.probe_tasks import Labelled, Task, accuracy, bag, mutual_information, pool, recordings, tasks
from pipeline.features import mfcc
from pipeline.features.encoder_info import describe
from pipeline.features.extractor import FeatureExtractor, Rejected
from pipeline.features.loading import local_folder

RATE = 16_000
_AT_ONCE = 64
_FITTED_FRAMES = 100_000


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What is asked of every system.

    Attributes:
        found: The recordings.
        waveforms: Their waveforms at 16 kHz.
        tasks: The tasks by name.
        seeds: How many seeds.
        num_clusters: K of the codebooks for tokens.
    """

    found: Sequence[Labelled]
    waveforms: Sequence[np.ndarray]
    tasks: dict[str, Task]
    seeds: int
    num_clusters: int

    def features(self, encoder: str, layers: Sequence[int]) -> dict[int, list[np.ndarray]]:
        """Encode everything: float16 (T, D) of each utterance by layer."""
        extractor = FeatureExtractor(encoder=encoder, layers=layers, batch_seconds=16.0)
        held: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
        for start in range(0, len(self.waveforms), _AT_ONCE):
            for result in extractor.extract(list(self.waveforms[start : start + _AT_ONCE])):
                if isinstance(result, Rejected):
                    raise SystemExit(f"error: a recording cannot be encoded: {result.detail}")
                for layer in layers:
                    held[layer].append(result[layer])
        return held

    def ask(self, inputs: np.ndarray, seeds: Sequence[int]) -> dict[str, list[float]]:
        """Give the accuracy of every task, for each seed."""
        answers = {}
        for name, task in self.tasks.items():
            labels = np.array([str(task.label(one)) for one in self.found])
            answers[name] = [accuracy(inputs, labels, task.folds, seed=seed) for seed in seeds]
        return answers

    def ask_tokens(self, features: Sequence[np.ndarray]) -> dict[str, Any]:
        """Fit a codebook on what the encoder was trained on, and ask the bags of its tokens."""
        import faiss

        trained = np.concatenate([f for f, one in zip(features, self.found, strict=True) if one.trained_on])
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(trained))[:_FITTED_FRAMES]
        kmeans = faiss.Kmeans(trained.shape[1], self.num_clusters, niter=25, seed=1, max_points_per_centroid=10**6)
        kmeans.train(trained[chosen].astype(np.float32))
        tokens = [kmeans.index.search(one.astype(np.float32), 1)[1][:, 0] for one in features]
        answers: dict[str, Any] = self.ask(np.stack([bag(one, self.num_clusters) for one in tokens]), range(self.seeds))
        return answers | self._information(tokens)

    def _information(self, tokens: Sequence[np.ndarray]) -> dict[str, float]:
        """Measure what a token tells of its frame's digit and speaker, on digits kept from training."""
        kept = [(t, one) for t, one in zip(tokens, self.found, strict=True) if one.digit is not None]
        kept = [(t, one) for t, one in kept if not one.trained_on]
        speakers = sorted({one.speaker for _, one in kept})
        ids = np.concatenate([t for t, _ in kept])
        digit = np.concatenate([np.full(len(t), one.digit) for t, one in kept])
        # Speakers are asked of takes that all of them have.
        same = [(t, one) for t, one in kept if one.take is not None and one.take < 5]
        speaker = np.concatenate([np.full(len(t), speakers.index(one.speaker)) for t, one in same])
        shuffled = np.random.default_rng(0).permutation(digit)
        return {
            "bits_digit": mutual_information(ids, digit),
            "bits_digit_shuffled": mutual_information(ids, shuffled),
            "bits_speaker": mutual_information(np.concatenate([t for t, _ in same]), speaker),
        }


def load(found: Sequence[Labelled]) -> list[np.ndarray]:
    """Read recordings as float32 at 16 kHz."""
    waveforms = []
    for one in found:
        samples, rate = soundfile.read(one.path, dtype="float32")
        waveforms.append(samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="HQ"))
    return waveforms


def random_encoders(encoder: str, seeds: int) -> Iterator[tuple[int, str]]:
    """Write encoders of the same shape with other weights, one for each seed, and give their folders."""
    import torch
    from transformers import HubertConfig, HubertModel

    source = local_folder(encoder)
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(seed)
            HubertModel(HubertConfig.from_pretrained(source)).float().save_pretrained(folder)
            name = "preprocessor_config.json"
            (Path(folder) / name).write_bytes((source / name).read_bytes())
            yield seed, folder


def systems(encoder: str, probe: Probe, *, with_random: bool) -> dict[str, dict[str, Any]]:
    """Ask MFCC, random encoders and every layer of the encoder.

    Returns:
        For each system, as ``mfcc``, ``random 3`` and ``layer 3``, its answers on ``features`` and on ``tokens``.
    """
    layers = range(describe(encoder).num_layers + 1)
    answers: dict[str, dict[str, Any]] = {}
    for prefix, name, asked in (("mfcc", mfcc.NAME, range(1)), ("layer", encoder, layers)):
        for layer, features in probe.features(name, asked).items():
            label = prefix if name == mfcc.NAME else f"layer {layer}"
            pooled = np.stack([pool(one) for one in features])
            answers[label] = {"features": probe.ask(pooled, range(probe.seeds)), "tokens": probe.ask_tokens(features)}
            _tell(label, answers[label])
    for seed, folder in random_encoders(encoder, probe.seeds if with_random else 0):
        for layer, features in probe.features(folder, layers).items():
            own = answers.setdefault(f"random {layer}", {"features": {name: [] for name in probe.tasks}})
            for name, values in probe.ask(np.stack([pool(one) for one in features]), [seed]).items():
                own["features"][name] += values
    return answers


def _tell(label: str, answer: dict[str, Any]) -> None:
    import sys

    shown = " ".join(f"{name} {values[0]:.3f}" for name, values in answer["features"].items())
    print(f"{label}: {shown}", file=sys.stderr, flush=True)


def show(answers: dict[str, dict[str, Any]], part: str) -> str:
    """Lay the answers of features or tokens out as a table: mean and standard deviation over seeds."""
    rows = []
    names: list[str] = []
    for label, parts in answers.items():
        if part not in parts:
            continue
        names = list(parts[part])
        cells = [
            f"{np.mean(value):.3f} +- {np.std(value):.3f}" if isinstance(value, list) else f"{value:.3f}"
            for value in parts[part].values()
        ]
        rows.append([label, *cells])
    return table([part, *names], rows)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--encoder", required=True, help="encoder: a folder, or encoder-small")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of bootstrap samples and random encoders")
    parser.add_argument("--num-clusters", type=int, default=100, help="K of the codebooks whose tokens are asked")
    parser.add_argument("--no-random", action="store_true", help="leave the random encoders out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="PNG of accuracy and mutual information by layer")
    given = parser.parse_args()
    began = time.monotonic()
    with threadpool_limits(1):
        found = recordings()
        probe = Probe(
            found=found,
            waveforms=load(found),
            tasks=tasks(found),
            seeds=given.seeds,
            num_clusters=given.num_clusters,
        )
        answers = systems(given.encoder, probe, with_random=not given.no_random)
    for part in ("features", "tokens"):
        print(show(answers, part) + "\n")
    result = {"answers": answers, "machine": machine(), "seconds": time.monotonic() - began}
    write_json(given.json, result)
    if given.plot is not None:
        draw(answers, given.plot)
    print(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    main()
