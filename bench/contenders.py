"""The loops that tokenize_corpus is timed against, each a child process: python -m bench.contenders SETTINGS.

``bare``       batches of the plan through the cut encoder, waveforms in memory, nothing quantised: the ceiling
``one_layer``  fairseq's simple_kmeans: an utterance at a time, one layer a run, features to disk, labels from there;
               the network whole, as usual with transformers, or with ``cut`` up to the layer, as fairseq's own is
``all_layers`` SpeechBrain's DiscreteSSL: an utterance at a time, full depth, all hidden states, labels to .npy
``one_pass``   features of several layers in one pass, and of the highest alone, batch by batch in turn
``peak``       nothing but float32 matrix products

Each loads its model, codebooks and libraries, counts the FLOPs of one batch or utterance, which also warms it up, and
says ``ready``; times start at ``go``.
Source: the procedures are those of facebookresearch/fairseq, examples/hubert/simple_kmeans, and of speechbrain,
DiscreteSSL and DASB; written anew on transformers and scikit-learn.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.measuring import count_flops, peak_bytes, seconds_of, sgemm_peak, wait_for_go

Settings = dict[str, Any]
Work = Callable[[], dict[str, Any]]


def shares(settings: Settings) -> list[list[dict[str, Any]]]:
    """Give this child's shards, each as its manifest rows: every n-th, so that all children have the same work."""
    from pipeline.audio.loading import Manifest

    manifest = Manifest(settings["manifest"])
    mine = manifest.units[settings["child"] :: settings["children"]]
    return [manifest.rows(unit).to_pylist() for unit in mine]


def decode(row: dict[str, Any], sample_rate: int) -> np.ndarray:
    """Read one utterance as these loops do: float32 mono at the encoder's rate."""
    import soundfile
    import soxr

    waveform, rate = soundfile.read(row["uri"], dtype="float32", always_2d=True)
    mono: np.ndarray = waveform.mean(axis=1)
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate)


def bare(settings: Settings) -> Work:
    """Load the cut encoder and all waveforms; then encode the batches of each shard."""
    from pipeline.features.encoders.encoder import SslEncoder
    from pipeline.work.runtime import set_threads

    set_threads(settings["threads"])
    encoder = SslEncoder.from_pretrained(
        settings["encoder"], layers=settings["layers"], dtype=settings.get("dtype", "float32")
    )
    batches = _batches(settings, encoder)
    middle = batches[len(batches) // 2]
    flops = count_flops(lambda: encoder.encode(middle)) / (sum(map(len, middle)) / encoder.sample_rate)

    def work() -> dict[str, Any]:
        for batch in batches:
            encoder.encode(batch)
        return {"ended": time.monotonic(), "flops_per_audio_second": flops}

    return work


def _batches(settings: Settings, encoder: Any) -> list[list[np.ndarray]]:
    """Decode this child's shards and give the waveforms of each batch of the plan."""
    from pipeline.audio.batching import plan_batches

    batches = []
    for rows in shares(settings):
        waveforms = [decode(row, encoder.sample_rate) for row in rows]
        plan = plan_batches(
            [len(waveform) for waveform in waveforms],
            max_batch_samples=round(settings["batch_seconds"] * encoder.sample_rate),
            equal_lengths=not encoder.can_pad,
        )
        batches += [[waveforms[row] for row in batch.rows] for batch in plan]
    return batches


def one_pass(settings: Settings) -> Work:
    """Load an encoder for all layers and one for the highest; then give each batch to both, as features in float16."""
    from pipeline.features.encoders.encoder import SslEncoder
    from pipeline.work.runtime import set_threads

    set_threads(settings["threads"])
    chosen = {"all": settings["layers"], "highest": [max(settings["layers"])]}
    encoders = {
        name: SslEncoder.from_pretrained(settings["encoder"], layers=layers, dtype=settings.get("dtype", "float32"))
        for name, layers in chosen.items()
    }
    batches = _batches(settings, encoders["all"])

    def both(batch: list[np.ndarray], order: Iterable[str]) -> dict[str, float]:
        return {
            name: seconds_of(lambda name=name: encoders[name].encode_half(encoders[name].prepare(batch)))
            for name in order
        }

    # Each length of a batch is a shape for which oneDNN prepares itself once.
    both(batches[len(batches) // 2], chosen)

    def work() -> dict[str, Any]:
        seconds = dict.fromkeys(chosen, 0.0)
        for number, batch in enumerate(batches):
            # The second of the two finds the batch in the caches, so they take turns at being it.
            for name, took in both(batch, sorted(chosen, reverse=bool(number % 2))).items():
                seconds[name] += took
        return {"seconds_of": seconds, "ended": time.monotonic()}

    return work


def _usual(settings: Settings, depth: int | None = None) -> tuple[Any, Any]:
    """Load network and feature extractor as everybody does, in float32; cut after ``depth`` blocks if it is given."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    torch.set_num_threads(settings["threads"])
    # transformers would compute in the number format of the file, which is float16 for encoder-small.
    network = AutoModel.from_pretrained(settings["encoder"], dtype=torch.float32).eval()
    if depth is not None:
        network.encoder.layers = network.encoder.layers[:depth]
        if getattr(network.config, "do_stable_layer_norm", False):
            network.encoder.layer_norm = torch.nn.Identity()
    return network, AutoFeatureExtractor.from_pretrained(settings["encoder"])


def _codebooks(settings: Settings) -> dict[int, Any]:
    """Make scikit-learn's estimators around given centroids."""
    from sklearn.cluster import MiniBatchKMeans

    from pipeline.kmeans.read_codebooks import read_codebooks

    found = {}
    for book in read_codebooks(settings["codebooks"], tuple(settings["layers"])):
        kmeans = MiniBatchKMeans(book.num_clusters, init=book.centroids, n_init=1, max_iter=1)
        found[book.layer] = kmeans.fit(book.centroids)
        found[book.layer].cluster_centers_ = book.centroids
    return found


def _usual_flops(network: Any, extractor: Any, row: dict[str, Any]) -> float:
    waveform = decode(row, extractor.sampling_rate)
    values = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_values
    return count_flops(lambda: network(values)) / (len(waveform) / extractor.sampling_rate)


def one_layer(settings: Settings) -> Work:
    """Features of one layer to disk, then labels from disk to text."""
    import torch

    layer = settings["layers"][0]
    network, extractor = _usual(settings, depth=layer if settings["cut"] else None)
    kmeans = _codebooks(settings)[layer]
    rows = [row for shard in shares(settings) for row in shard]
    flops = _usual_flops(network, extractor, rows[len(rows) // 2])
    folder = Path(settings["output"])

    def work() -> dict[str, Any]:
        began = time.monotonic()
        lengths = []
        with (folder / f"{layer}.npy").open("wb") as file, torch.inference_mode():
            for row in rows:
                waveform = decode(row, extractor.sampling_rate)
                values = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_values
                # Cut there, the stack's output is the layer.
                whole = not settings["cut"]
                found = network(values, output_hidden_states=whole)
                features = (found.hidden_states[layer] if whole else found.last_hidden_state)[0].numpy()
                np.save(file, features)
                lengths.append(len(features))
        (folder / f"{layer}.len").write_text("".join(f"{length}\n" for length in lengths))
        dumped = time.monotonic()
        with (folder / f"{layer}.npy").open("rb") as file, (folder / f"{layer}.km").open("w") as text:
            for _ in lengths:
                text.write(" ".join(map(str, kmeans.predict(np.load(file)))) + "\n")
        return {"dump_seconds": dumped - began, "ended": time.monotonic(), "flops_per_audio_second": flops}

    return work


def all_layers(settings: Settings) -> Work:
    """Every hidden state of the whole network; each layer labelled at once, tokens of an utterance to one .npy."""
    import torch

    network, extractor = _usual(settings)
    kmeans = _codebooks(settings)
    rows = [row for shard in shares(settings) for row in shard]
    flops = _usual_flops(network, extractor, rows[len(rows) // 2])
    folder = Path(settings["output"])

    def work() -> dict[str, Any]:
        quantising = 0.0
        for row in rows:
            waveform = decode(row, extractor.sampling_rate)
            values = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_values
            with torch.inference_mode():
                states = network(values, output_hidden_states=True).hidden_states
            began = time.monotonic()
            tokens = [kmeans[layer].predict(states[layer][0].numpy()) for layer in sorted(kmeans)]
            quantising += time.monotonic() - began
            np.save(folder / f"{row['utterance_id']}.npy", np.stack(tokens, axis=1))
        return {"quantise_seconds": quantising, "ended": time.monotonic(), "flops_per_audio_second": flops}

    return work


def peak(settings: Settings) -> Work:
    """Multiply matrices."""

    def work() -> dict[str, Any]:
        found = sgemm_peak(settings["threads"], settings.get("size", 2048), settings.get("seconds", 2.0))
        return {"flops_per_second": found, "ended": time.monotonic()}

    return work


CONTENDERS: dict[str, Callable[[Settings], Work]] = {
    "bare": bare,
    "one_layer": one_layer,
    "all_layers": all_layers,
    "one_pass": one_pass,
    "peak": peak,
}


def saved_tokens(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Read what ``all_layers`` wrote: utterance and (T, L)."""
    for path in sorted(folder.glob("*.npy")):
        yield path.stem, np.load(path)


def main() -> None:
    """Run the contender that the settings name."""
    settings = json.loads(sys.argv[1])
    began = time.monotonic()
    work = CONTENDERS[settings["contender"]](settings)
    loading = time.monotonic() - began
    wait_for_go()
    found = work()
    print(json.dumps({"load_seconds": loading, "peak_bytes": peak_bytes(), **found}))


if __name__ == "__main__":
    main()
