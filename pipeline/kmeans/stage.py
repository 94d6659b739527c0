"""Fit codebooks: K-means over a features dataset, every layer in one job.

Reads: a features dataset, whole or sampled. Writes: a codebooks dataset, ``layer_07_k1000.safetensors`` for each
layer. Restart: after every iteration the centroids of every layer lie in ``_checkpoints/``; run again, the fit goes
on from there and ends with the same bits. Memory: the features, float16, over all workers.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import ray

from pipeline import faults, schema
from pipeline.completion import finish, read_shard_table, status, success
from pipeline.dataset import Dataset, Output, Plan, check_folder
from pipeline.errors import SettingsError
from pipeline.executor import connect
from pipeline.features.numerics import numerics_key
from pipeline.kmeans.cluster import Cluster
from pipeline.kmeans.codebook import MAX_CLUSTERS, Codebook
from pipeline.kmeans.lloyd import PartialSums, relative_improvement, update
from pipeline.provenance import record_settings
from pipeline.reporting import StageReport, Tally
from pipeline.storage import open_store

logger = logging.getLogger(__name__)

DATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FitKmeansConfig:
    """Settings of fit_kmeans."""

    features: str
    """Features dataset, local or s3://."""
    output: str
    """Folder of the codebooks, local or s3://."""
    num_clusters: int
    """Clusters of each layer's codebook (K), 2 to 65,536."""
    layers: tuple[int, ...] = ()
    """Layers to fit; default: every layer of the features."""
    max_iterations: int = 50
    """Iterations of Lloyd's algorithm at most."""
    tolerance: float = 1e-4
    """Stop a layer when its inertia falls by less than this share in an iteration."""
    seeding_frames_per_cluster: int = 64
    """k-means++ chooses the first centroids among this many frames a cluster."""
    seed: int = 0
    """Seed of the sample for k-means++ and of its choices."""
    num_workers: int | None = None
    """Actors that hold the features; default: one a CPU."""

    def __post_init__(self) -> None:
        if not 2 <= self.num_clusters <= MAX_CLUSTERS:
            raise SettingsError(f"num_clusters must be in 2 to {MAX_CLUSTERS}, got {self.num_clusters}")
        if self.max_iterations < 1:
            raise SettingsError(f"max_iterations must be at least 1, got {self.max_iterations}")
        if not 0 <= self.tolerance < 1:
            raise SettingsError(f"tolerance must be in [0, 1), got {self.tolerance}")
        if self.seeding_frames_per_cluster < 1:
            raise SettingsError(f"seeding_frames_per_cluster must be at least 1, got {self.seeding_frames_per_cluster}")
        if self.num_workers is not None and self.num_workers < 1:
            raise SettingsError(f"num_workers must be at least 1, got {self.num_workers}")


@dataclass
class Fit:
    """The state of one layer's fit after an iteration; what a checkpoint holds."""

    centroids: np.ndarray
    counts: np.ndarray
    inertia: list[float] = field(default_factory=list)
    num_empty: int = 0
    num_close: int = 0
    converged: bool = False

    def advance(self, sums: PartialSums, num_close: int, config: FitKmeansConfig) -> None:
        """Take the sums of one iteration in."""
        moved = update(sums, self.centroids)
        self.centroids, self.counts = moved.centroids, sums.counts
        self.num_empty += moved.num_empty
        self.num_close += num_close
        self.inertia.append(sums.inertia_value)
        if len(self.inertia) >= config.max_iterations:
            self.converged = True
        elif len(self.inertia) >= 2:
            self.converged = relative_improvement(*self.inertia[-2:]) < config.tolerance


def prepare(config: FitKmeansConfig) -> Plan:
    """Plan the codebooks and refuse a folder that holds others. Needs no Ray.

    Raises:
        DatasetError: The features are not finished.
        SettingsError: They lack a layer, or have fewer frames than clusters.
        PlanMismatchError: The output folder was made with other settings.
    """
    features = Dataset.open(config.features, kind="features")
    lineage = features.plan.lineage
    layers = sorted(config.layers) or list(lineage["layers"])
    if absent := sorted(set(layers) - set(lineage["layers"])):
        raise SettingsError(f"{config.features} has layers {lineage['layers']}, not {absent}")
    frames = int(sum(read_shard_table(features)["num_frames"].to_pylist()))
    if frames < config.num_clusters:
        raise SettingsError(
            f"{config.features} has {frames} frames, fewer than num_clusters {config.num_clusters}; "
            "lower num_clusters or keep more frames"
        )
    input_sha256 = success(features)["dataset_sha256"]
    settings = {
        "num_clusters": config.num_clusters,
        "max_iterations": config.max_iterations,
        "tolerance": config.tolerance,
        "seeding_frames_per_cluster": config.seeding_frames_per_cluster,
        "seed": config.seed,
    }
    content = {"data_version": DATA_VERSION, "input_sha256": input_sha256, "layers": layers, **settings}
    kept = ("encoder", "encoder_sha256", "dim", "sample_rate", "hop_length", "frame_rate", "dtype")
    plan = Plan(
        kind="codebooks",
        content=content,
        lineage={
            **{key: lineage[key] for key in kept},
            "kind": "codebooks",
            "schema_version": schema.SCHEMA_VERSION,
            "input_sha256": input_sha256,
            **settings,
        },
        units=[schema.codebook_unit(layer, config.num_clusters) for layer in layers],
        totals={"frames": frames},
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    return plan


def fit_kmeans(config: FitKmeansConfig) -> StageReport:
    """Fit one codebook a layer by Lloyd's algorithm with exact sums.

    The result is the same, bit for bit, for any number of workers and after any restart.

    Source: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982); first centroids by
    D. Arthur and S. Vassilvitskii, "k-means++", SODA 2007, on a sample.

    Raises:
        SettingsError: Features lack a layer or distinct frames.
        PlanMismatchError: The output folder was made with other settings.
    """
    plan = prepare(config)
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    tally = Tally(status(dataset))
    layers = {layer: schema.codebook_unit(layer, config.num_clusters) for layer in plan.content["layers"]}
    pending = {layer: unit for layer, unit in layers.items() if unit in set(dataset.pending())}
    connect()
    num_workers = config.num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    if pending:
        features = Dataset.open(config.features, kind="features")
        cluster = Cluster(features, list(pending), num_workers=min(num_workers, len(features.plan.units)), threads=1)
        try:
            _fit(dataset, cluster, pending, config)
        finally:
            cluster.close()
    digest = finish(dataset)
    dataset.store.delete_tree("_checkpoints")
    tally.units = len(pending)
    return tally.report(status(dataset), workers=f"{num_workers} K-means actor(s)", dataset_sha256=digest)


def _fit(dataset: Dataset, cluster: Cluster, units: Mapping[int, str], config: FitKmeansConfig) -> None:
    fits = {layer: fit for layer, unit in units.items() if (fit := _resume(dataset, unit)) is not None}
    if fresh := [layer for layer in units if layer not in fits]:
        size = config.seeding_frames_per_cluster * config.num_clusters
        seeds = cluster.seed(fresh, num_clusters=config.num_clusters, size=size, seed=config.seed, threads=1)
        for layer, centroids in seeds.items():
            fits[layer] = Fit(centroids=centroids, counts=np.zeros(config.num_clusters, np.int64))
    while active := {layer: fit for layer, fit in fits.items() if not fit.converged}:
        began = time.monotonic()
        steps = cluster.step({layer: fit.centroids for layer, fit in active.items()})
        for layer, (sums, num_close) in steps.items():
            active[layer].advance(sums, num_close, config)
            _checkpoint(dataset, units[layer], layer, active[layer])
            faults.point("after_checkpoint", units[layer])
        logger.info(
            "K-means: %s, %.1f s",
            ", ".join(
                f"layer {layer} iteration {len(fit.inertia)} inertia {fit.inertia[-1]:.6g}"
                for layer, fit in active.items()
            ),
            time.monotonic() - began,
        )
    for layer, unit in units.items():
        codebook = _codebook(layer, fits[layer], dict(dataset.plan.lineage))
        notes = {"iterations": len(fits[layer].inertia), "empty_clusters_split": fits[layer].num_empty}
        notes["near_ties_decided_exactly"] = fits[layer].num_close
        output = Output(data=codebook.to_bytes(), rows=config.num_clusters, notes=notes)
        if dataset.read_commit(unit) is None:
            dataset.commit(unit, dataset.announce(unit), output, numerics_key("cpu"))


def _codebook(layer: int, fit: Fit, lineage: dict[str, object]) -> Codebook:
    return Codebook(
        layer=layer,
        centroids=fit.centroids,
        counts=fit.counts,
        inertia=np.array(fit.inertia),
        lineage={**lineage, "layer": layer},
    )


def _checkpoint(dataset: Dataset, unit: str, layer: int, fit: Fit) -> None:
    state = {"num_empty": fit.num_empty, "num_close": fit.num_close, "converged": fit.converged}
    codebook = _codebook(layer, fit, {**dataset.plan.lineage, "checkpoint": state})
    dataset.store.write(f"_checkpoints/{unit}.safetensors", codebook.to_bytes())


def _resume(dataset: Dataset, unit: str) -> Fit | None:
    name = f"_checkpoints/{unit}.safetensors"
    try:
        saved = Codebook.from_bytes(dataset.store.read(name), f"{dataset.uri}/{name}")
    except FileNotFoundError:
        return None
    logger.info("%s resumes after iteration %d", unit, len(saved.inertia))
    return Fit(
        centroids=saved.centroids, counts=saved.counts, inertia=saved.inertia.tolist(), **saved.lineage["checkpoint"]
    )
