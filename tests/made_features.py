"""A features dataset and codebooks made from arrays; shared by the tests of cards."""

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.kmeans.codebook import Codebook
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes

ENCODER = "e" * 64
LINEAGE = {
    "encoder": "small",
    "encoder_sha256": ENCODER,
    "sample_rate": 16_000,
    "hop_length": 320,
    "frame_rate": 50.0,
    "dtype": "float32",
    "input_sha256": "m" * 64,
}


def write_features(folder, shards, layers=(3,), sampled=False, **content):
    """Write a features dataset.

    Args:
        folder: Where.
        shards: Of each shard its rows: (utterance id, frame numbers (T,), float16 (T, D) for all layers).
        layers: Layers.
        sampled: Whether rows hold samples of frames.
        content: More of its plan, as ``input_sha256``.
    """
    dim = shards[0][0][2].shape[1]
    lineage = {**LINEAGE, "layers": list(layers), "dim": dim, "sample_fraction": 0.5 if sampled else 1}
    units = [f"shard-{number:05d}" for number in range(len(shards))]
    plan = Plan(kind="features", content={"v": 1, **content}, lineage=lineage, units=units)
    dataset = Dataset.create(str(folder), plan)
    for unit, rows in zip(units, shards, strict=True):
        columns = {
            "utterance_id": [name for name, _, _ in rows],
            "first_frame": [int(frames[0]) for _, frames, _ in rows],
            "num_frames": [len(frames) for _, frames, _ in rows],
            "frame_index": [frames.tolist() for _, frames, _ in rows],
            **{schema.layer_column(layer): [cell.astype("<f2").tobytes() for _, _, cell in rows] for layer in layers},
        }
        fields = schema.features(layers, sampled=sampled)
        table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in fields}, schema=fields)
        names = {name for name, _, _ in rows}
        output = Output(data=parquet_bytes(table, lineage), rows=len(names), num_frames=sum(len(f) for _, f, _ in rows))
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)
    return dataset


def make_codebook(layer, centroids, encoder=ENCODER, seed=0, prior=()):
    """Make a codebook of centroids (K, D); ``prior`` are the codebooks of the residual stages before it."""
    after = {"prior_sha256": [book.sha256 for book in prior]} if prior else {}
    return Codebook(
        layer=layer,
        centroids=centroids.astype(np.float32),
        counts=np.full(len(centroids), 10),
        inertia=np.array([9.0, 4.0, 3.5]),
        lineage={"encoder": "small", "encoder_sha256": encoder, "seed": seed, "input_sha256": "f" * 64, **after},
        quantizer=len(prior),
    )


def write_codebooks(folder, books):
    """Write a codebooks dataset; a layer may have several, of different K and stages."""
    units = [book.unit for book in books]
    plan = Plan(kind="codebooks", content={"v": 1}, lineage=LINEAGE, units=units, extension=".safetensors")
    dataset = Dataset.create(str(folder), plan)
    for unit, book in zip(units, books, strict=True):
        output = Output(data=book.to_bytes(), rows=book.num_clusters)
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)
    return dataset
