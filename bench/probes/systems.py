"""What bench/probes.py compares: MFCC, random encoders, trained ones; their frames and tokens, on one thread, no Ray.

Memory: waveforms, pooled features, and with ``frames`` a file of 2 L D bytes a frame in a scratch folder.
Shapes: N utterances, F frames of all of them, L layers, D width, K clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.probes.measures import SEGMENTS, pool_segments, token_counts
from bench.small_corpus import Recording
from pipeline.errors import SettingsError
from pipeline.features.encoders.files import PREPROCESSOR
from pipeline.features.encoders.info import MODELS, find
from pipeline.features.passes.extractor import FeatureExtractor, Rejected
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.fit import lloyd
from pipeline.kmeans.fit.seeding import kmeans_plus_plus
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.search.assignment import CentroidTable
from pipeline.tokens.quantize import check_codebooks, quantize

SAMPLE_RATE = 16_000
ROWS_A_CLUSTER = 256
"""Frames that a codebook is fitted on, for each of its clusters; no more than ``MOST_ROWS`` in all."""
MOST_ROWS = 60_000
ITERATIONS = 20
"""Of Lloyd's algorithm at most; it ends where no token changes."""

_GROUP = 256


@dataclass(frozen=True, kw_only=True)
class System:
    """One line of the comparison.

    Attributes:
        name: What it is called in tables.
        encoder: Encoder folder, or ``mfcc``.
        layers: Layers to measure.
        redrawn: Whether the weights of its shape are drawn anew for each seed.
    """

    name: str
    encoder: str
    layers: tuple[int, ...]
    redrawn: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """All recordings as one encoder hears them.

    Attributes:
        encoder_sha256: The encoder.
        pooled: By layer, float32 (N, 4 D).
        frames: By layer, float16 (F, D), utterance by utterance; none where they were not kept.
        ends: int64 (N + 1,), where utterances begin in ``frames``, and the end of the last.
    """

    encoder_sha256: str
    pooled: dict[int, np.ndarray]
    frames: dict[int, np.ndarray]
    ends: np.ndarray


def read_waveforms(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Read recordings, mono, at 16 kHz, float32 (S,) each."""
    import soundfile
    import soxr

    waveforms = []
    for recording in recordings:
        samples, rate = soundfile.read(recording.path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        waveforms.append(mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32))
    return waveforms


def draw_encoder(encoder: str, seed: int, folder: Path) -> None:
    """Write an encoder of the same shape and preprocessor with weights that transformers draws.

    Args:
        encoder: Encoder folder.
        seed: Seed of the weights.
        folder: Where.
    """
    import torch
    import transformers

    source = find(encoder)
    assert source.folder is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(transformers, MODELS[source.config.model_type].network)(source.config)
    network.save_pretrained(folder)
    if (source.folder / PREPROCESSOR).is_file():
        (folder / PREPROCESSOR).write_bytes((source.folder / PREPROCESSOR).read_bytes())


def encode(
    encoder: str, layers: Sequence[int], waveforms: Sequence[np.ndarray], frames_folder: Path | None = None
) -> Encoded:
    """Encode all recordings.

    Args:
        encoder: Encoder folder, or ``mfcc``.
        layers: Layers.
        waveforms: float32 (S,) each, at 16 kHz.
        frames_folder: Where frames are kept, a file a layer; None keeps none.

    Raises:
        SettingsError: The encoder hears another rate, or a recording has no features.
    """
    extractor = FeatureExtractor(encoder=encoder, layers=layers, threads=1)
    info = extractor.encoder.info
    if info.sample_rate != SAMPLE_RATE:
        raise SettingsError(f"encoder {encoder} hears {info.sample_rate} Hz; probes are read at {SAMPLE_RATE} Hz")
    counts = info.clock.frame_counts(np.array([len(waveform) for waveform in waveforms]))
    ends = np.concatenate([[0], np.cumsum(counts)])
    pooled = {layer: np.empty((len(waveforms), SEGMENTS * info.dim), np.float32) for layer in layers}
    frames: dict[int, np.ndarray] = {}
    if frames_folder is not None:
        for layer in layers:
            path = frames_folder / f"layer_{layer:02d}.npy"
            shape = (int(ends[-1]), info.dim)
            frames[layer] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for begin in range(0, len(waveforms), _GROUP):
        for row, found in enumerate(extractor.extract(waveforms[begin : begin + _GROUP]), begin):
            if isinstance(found, Rejected):
                raise SettingsError(f"recording {row} has no features from {encoder}: {found.detail}")
            for layer in layers:
                pooled[layer][row] = pool_segments(found[layer])
                if frames:
                    frames[layer][ends[row] : ends[row + 1]] = found[layer]
    return Encoded(encoder_sha256=info.weights_sha256, pooled=pooled, frames=frames, ends=ends)


def given_codebooks(uri: str, num_clusters: int | None) -> dict[int, Codebook]:
    """Read the first residual stage of the codebooks of a folder, by layer.

    Args:
        uri: A codebooks dataset.
        num_clusters: K wanted.

    Raises:
        SettingsError: Layers have codebooks of different K, and none is chosen.
    """
    found = {book.layer: book for book in read_codebooks(uri, num_clusters=num_clusters) if book.quantizer == 0}
    sizes = sorted({book.num_clusters for book in found.values()})
    if len(sizes) > 1:
        raise SettingsError(f"{uri} has codebooks of K = {', '.join(map(str, sizes))}; choose one with --num-clusters")
    return found


def fit_codebook(encoded: Encoded, layer: int, heard: np.ndarray, num_clusters: int, seed: int) -> Codebook:
    """Fit a codebook on some frames of the recordings that training heard, by the product's own mathematics.

    Args:
        encoded: Frames of all recordings.
        layer: Which of its layers.
        heard: bool (N,), the recordings that frames may be of.
        num_clusters: K.
        seed: Seed of the choice of frames and of k-means++.
    """
    places = np.flatnonzero(np.repeat(heard, np.diff(encoded.ends)))
    size = min(len(places), ROWS_A_CLUSTER * num_clusters, MOST_ROWS)
    chosen = np.sort(np.random.default_rng(seed).choice(places, size, replace=False))
    rows = np.asarray(encoded.frames[layer][chosen])
    centroids = kmeans_plus_plus(rows, num_clusters, seed)
    sums, tokens = lloyd.RunningSums(*centroids.shape), np.full(len(rows), -1, np.int32)
    for _ in range(ITERATIONS):
        found = CentroidTable(centroids).nearest(rows).tokens
        if np.array_equal(found, tokens):
            break
        sums.move(rows, tokens, found)
        tokens = found
        centroids = lloyd.update(sums.total(), centroids).centroids
    return Codebook(
        layer=layer,
        centroids=centroids,
        counts=sums.total().counts,
        inertia=np.zeros(0),
        lineage={"encoder_sha256": encoded.encoder_sha256},
    )


def count_tokens(encoded: Encoded, book: Codebook) -> np.ndarray:
    """Count the tokens of every recording, int64 (N, K).

    Raises:
        CodebookMismatchError: The codebook was fitted on another encoder.
    """
    frames = encoded.frames[book.layer]
    check_codebooks([book], encoder_sha256=encoded.encoder_sha256, dim=frames.shape[1])
    tokens = quantize({book.layer: frames}, [book]).tokens[book.layer]
    return token_counts(tokens.astype(np.int64), encoded.ends, book.num_clusters)
