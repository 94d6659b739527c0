"""Fit codebooks: K-means over features datasets, all layers and numbers of clusters in one job.

Reads: features datasets, whole or sampled, once. Writes: a codebooks dataset, ``layer_07_k1000.safetensors`` for each
layer and K. Restart: after every iteration the state of every fit lies in ``_checkpoints/``; run again, fits go on from
there and end with the same bits. Memory: ``memory_per_worker``; what is more lies on the workers' local disks.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import faults, schema
from pipeline.errors import SettingsError
from pipeline.features.numerics import numerics_key
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.fit.cluster import Cluster, FitShape, fit_shape
from pipeline.kmeans.fit.inputs import FitInputs
from pipeline.kmeans.fit.partition import Request, RowSet, Step
from pipeline.kmeans.fit.seeding import given_centroids
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.state import Fit, Stopping, Target
from pipeline.kmeans.fit.telling import FitLog
from pipeline.kmeans.fit.watching import FitWatch
from pipeline.kmeans.search.engines import check_gpus
from pipeline.store.completion import finish, status, unless_finished
from pipeline.store.dataset import Dataset, Output, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.reading import read_committed
from pipeline.store.storage import open_store
from pipeline.work.reporting import StageReport, Tally
from pipeline.work.worker_shape import Node

logger = logging.getLogger(__name__)

DATA_VERSION = 3


def prepare(config: FitKmeansConfig) -> Plan:
    """Plan the codebooks and refuse a folder that holds others. Needs no Ray.

    Raises:
        DatasetError: The features are not finished.
        SettingsError: They lack a layer, are not of one encoder, hold the same data twice, or have fewer frames than
            clusters, or given codebooks do not fit.
        PlanMismatchError: The output folder was made with other settings.
    """
    inputs = FitInputs.open(config.features)
    lineage, layers = inputs.lineage, inputs.layers(config.fitting.layers)
    frames = int(config.fraction * inputs.num_frames())
    for share in (1.0, *config.warm_start):
        if share * frames < max(config.fitting.num_clusters):
            part = "" if share * config.fraction == 1 else f" in a fraction of {share * config.fraction:g}"
            raise SettingsError(
                f"{inputs.names}: {int(share * frames)} frames{part}, fewer than num_clusters "
                f"{max(config.fitting.num_clusters)}; lower num_clusters or keep more frames"
            )
    given = _given_codebooks(config, layers, lineage)
    settings = {
        "fraction": config.fraction,
        "warm_start": list(config.warm_start),
        "num_quantizers": config.kmeans.num_quantizers,
        "max_iterations": config.kmeans.max_iterations,
        "tolerance": config.kmeans.tolerance,
        "init": {unit: book.sha256 for unit, book in given.items()} or config.fitting.init,
        "seeding_frames_per_cluster": config.seeding_frames_per_cluster,
        "seed": config.fitting.seed,
    }
    content = {"data_version": DATA_VERSION, **inputs.origin, "layers": layers, **settings}
    kept = (
        "encoder",
        "encoder_sha256",
        "normalize_waveform",
        "dim",
        "sample_rate",
        "hop_length",
        "frame_rate",
        "dtype",
    )
    plan = Plan(
        kind="codebooks",
        content={**content, "num_clusters": sorted(config.fitting.num_clusters)},
        lineage={
            **{key: lineage[key] for key in kept if key in lineage},
            "kind": "codebooks",
            "schema_version": schema.SCHEMA_VERSION,
            **inputs.origin,
            **settings,
        },
        units=[target.unit for target in config.targets(layers)],
        totals={"frames": frames},
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    return plan


def _given_codebooks(config: FitKmeansConfig, layers: Sequence[int], lineage: Mapping[str, Any]) -> dict[str, Codebook]:
    """Read the codebooks that fits begin with, by unit; none where they are seeded."""
    if config.init_codebooks is None:
        return {}
    dataset, wanted = Dataset.open(config.init_codebooks, kind="codebooks"), config.targets(layers)
    if absent := sorted({target.unit for target in wanted} - set(dataset.plan.units)):
        raise SettingsError(
            f"init_codebooks {config.init_codebooks} has {', '.join(dataset.plan.units)}, not {', '.join(absent)}"
        )
    found = {}
    for target in wanted:
        source = f"{config.init_codebooks}/{target.unit}"
        book = Codebook.from_bytes(read_committed(dataset, target.unit), source)
        if book.encoder != lineage["encoder_sha256"]:
            raise SettingsError(
                f"{source} belongs to encoder {book.encoder}, the features to {lineage['encoder_sha256']}"
            )
        if heard := book.heard_otherwise(lineage.get("normalize_waveform")):
            raise SettingsError(f"{heard}, in {config.init_codebooks}")
        found[target.unit] = book
    return found


def fit_kmeans(config: FitKmeansConfig) -> StageReport:
    """Fit a codebook for each layer and K by Lloyd's algorithm with exact sums.

    The result is the same, bit for bit, for any number of workers, any memory, any order of the features datasets and
    after any restart.

    Source: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982); first centroids by
    D. Arthur and S. Vassilvitskii, "k-means++", SODA 2007, on a sample, or B. Bahmani et al., "Scalable k-means++",
    VLDB 2012, on all rows.

    Raises:
        SettingsError: Features lack a layer or distinct frames, or do not belong together, or given codebooks do not
            fit.
        CorruptDatasetError: The features are damaged or hold values that are not finite.
        PlanMismatchError: The output folder was made with other settings.
    """
    plan = prepare(config)
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    tally = Tally(status(dataset))
    pending = len(dataset.pending())
    workers, seconds = "no K-means actor, all was there", dict[str, float]()
    if pending:
        with unless_finished(dataset):
            workers, seconds = _fit(config, plan, dataset, tally)
    digest = finish(dataset)
    dataset.store.delete_tree("_checkpoints")
    tally.units = pending
    report = tally.report(status(dataset), workers=workers, dataset_sha256=digest)
    return replace(report, notes={**report.notes, **seconds})


def _fit(config: FitKmeansConfig, plan: Plan, dataset: Dataset, tally: Tally) -> tuple[str, dict[str, float]]:
    """Fit what is not committed; give how the fits lay on the workers, and what took how long."""
    inputs = FitInputs.open(config.features)
    # What 20 ms of audio gives is a frame.
    runner = config.work.choice(plan.totals["frames"] / plan.lineage["frame_rate"]).runner
    shape = _lay_out(config, inputs.num_shards, plan, runner.nodes())
    cluster = Cluster(
        runner,
        inputs.datasets,
        plan.content["layers"],
        num_workers=shape.num_workers,
        budget=shape.budget,
        num_cpus=shape.num_cpus,
        num_gpus=shape.num_gpus,
        seed=config.fitting.seed,
        fraction=config.fraction,
        engine=config.search.engine,
    )
    try:
        on_disk = cluster.load()
        if on_disk:
            logger.info("K-means: %d of %d frames lie on the workers' disks", on_disk, plan.totals["frames"])
        loaded = time.monotonic()
        with FitWatch(dataset.uri, list(plan.units), runner.meter()) as watch:
            _Fitting(dataset, cluster, config).run(watch)
    finally:
        cluster.close()
    workers = f"{shape.num_workers} K-means actor(s) with {shape.budget.num_bytes / 1e9:.2f} GB each"
    return workers, {
        "load_seconds": round(loaded - tally.began, 2),
        "fit_seconds": round(time.monotonic() - loaded, 2),
    }


def _lay_out(config: FitKmeansConfig, num_shards: int, plan: Plan, nodes: Sequence[Node]) -> FitShape:
    num_fits = len(plan.content["layers"]) * len(config.fitting.num_clusters)
    shape = fit_shape(
        nodes,
        num_shards=num_shards,
        num_workers=config.fitting.num_workers,
        memory_per_worker=config.fitting.memory_per_worker,
        num_fits=num_fits,
        num_clusters=max(config.fitting.num_clusters),
        num_sources=num_fits if config.kmeans.num_quantizers > 1 else 0,
        warm_start=max(config.warm_start, default=0.0),
    )
    check_gpus(config.search.engine, shape.num_gpus)
    shape.tell(int(plan.totals["frames"]), int(plan.lineage["dim"]))
    return shape


class _Fitting:
    """All fits of a run: stages of one layer and K one after the other, everything else side by side."""

    def __init__(self, dataset: Dataset, cluster: Cluster, config: FitKmeansConfig) -> None:
        self._dataset = dataset
        self._cluster = cluster
        self._config = config
        self._shares = (*config.warm_start, 1.0)
        self._stopping = Stopping(max_iterations=config.kmeans.max_iterations, tolerance=config.kmeans.tolerance)
        self._given = _given_codebooks(config, dataset.plan.content["layers"], dataset.plan.lineage)
        self._targets = config.targets(dataset.plan.content["layers"])
        self._done: dict[str, Codebook] = {}
        self._active: dict[Target, Fit] = {}
        self._sources: dict[Target, RowSet] = {}
        self._began = time.monotonic()

    def run(self, watch: FitWatch) -> None:
        """Fit until every codebook is committed."""
        for target in self._targets:
            if target.quantizer == 0:
                self._begin(target)
                watch.begun(target)
        told = FitLog(len(self._targets))
        while self._active:
            requests = {
                target.unit: Request(source=self._sources[target], centroids=fit.centroids)
                for target, fit in self._active.items()
            }
            steps = self._cluster.step(requests)
            fits = dict(self._active)
            for target, fit in fits.items():
                self._advance(target, fit, steps[target.unit])
            shares = sum(request.source.fraction for request in requests.values())
            frames = self._dataset.plan.totals["frames"] * shares
            told.step(frames, len(self._done), {target.unit: fit for target, fit in self._active.items()})
            watch.stepped(frames, len(self._done), fits)

    def _begin(self, target: Target) -> None:
        """Begin the first stage of a chain that is not committed yet, from its checkpoint if there is one."""
        while self._dataset.read_commit(target.unit) is not None:
            data = read_committed(self._dataset, target.unit)
            self._done[target.unit] = Codebook.from_bytes(data, f"{self._dataset.uri}/{target.unit}")
            if target.quantizer + 1 == self._config.kmeans.num_quantizers:
                return
            target = replace(target, quantizer=target.quantizer + 1)
        prior = tuple(book.centroids for book in self._before(target))
        name = target.unit if prior else str(target.layer)
        source = RowSet(layer=target.layer, prior=prior, name=name)
        fit = self._resume(target) or self._seed(target, source)
        share = self._shares[len(fit.warm_iterations)]
        self._sources[target], self._active[target] = replace(source, fraction=share), fit
        if fit.stopped_by:
            self._end(target, fit)

    def _before(self, target: Target) -> list[Codebook]:
        stages = range(target.quantizer)
        return [self._done[replace(target, quantizer=stage).unit] for stage in stages]

    def _resume(self, target: Target) -> Fit | None:
        name = f"_checkpoints/{target.unit}.safetensors"
        try:
            fit = Fit.resume(self._dataset.store.read(name), f"{self._dataset.uri}/{name}")
        except FileNotFoundError:
            return None
        logger.info("%s resumes after iteration %d", target.unit, len(fit.inertia))
        return fit

    def _seed(self, target: Target, source: RowSet) -> Fit:
        if target.unit in self._given:
            dim = int(self._dataset.plan.lineage["dim"])
            given = self._given[target.unit].centroids
            centroids = given_centroids(given, target.num_clusters, dim, f"{self._config.init_codebooks}/{target.unit}")
        else:
            centroids = self._cluster.seed(
                source,
                target.num_clusters,
                how=self._config.fitting.init,
                sample_size=self._config.seeding_frames_per_cluster * target.num_clusters,
                seed=self._config.fitting.seed,
            )
        return Fit(centroids=centroids, counts=np.zeros(target.num_clusters, np.int64))

    def _lineage(self, target: Target) -> dict[str, object]:
        lineage = {**self._dataset.plan.lineage, "num_clusters": target.num_clusters}
        prior = [book.sha256 for book in self._before(target)]
        return {**lineage, "prior_sha256": prior} if prior else lineage

    def _advance(self, target: Target, fit: Fit, step: Step) -> None:
        fit.advance(step, self._stopping)
        minutes = (time.monotonic() - self._began) / 60
        if not fit.stopped_by and self._config.max_minutes is not None and minutes >= self._config.max_minutes:
            fit.stopped_by = "time"
        if fit.stopped_by in ("tolerance", "iterations") and self._sources[target].fraction < 1:
            fit.widen()
        name = f"_checkpoints/{target.unit}.safetensors"
        self._dataset.store.write(name, fit.checkpoint(target, self._lineage(target)))
        faults.point("after_checkpoint", target.unit)
        share = self._shares[len(fit.warm_iterations)]
        if fit.stopped_by:
            self._end(target, fit)
        elif share > self._sources[target].fraction:
            source = self._sources.pop(target)
            self._cluster.forget(target.unit, source, others=self._sources.values())
            self._sources[target] = replace(source, fraction=share)

    def _end(self, target: Target, fit: Fit) -> None:
        """Commit a codebook and begin the next stage."""
        codebook = fit.codebook(target, self._lineage(target))
        notes = {
            "iterations": len(fit.inertia),
            "warm_iterations": sum(fit.warm_iterations),
            "empty_clusters_split": sum(fit.empty),
            "stopped_by_time": int(fit.stopped_by == "time"),
            "tokens_kept_by_bounds": fit.work.by_bounds,
            "tokens_found_in_lists": fit.work.by_list,
            "tokens_searched": fit.work.by_search,
            "near_ties_decided_exactly": fit.work.by_float64,
        }
        output = Output(data=codebook.to_bytes(), rows=target.num_clusters, notes=notes)
        self._dataset.commit(target.unit, self._dataset.announce(target.unit), output, numerics_key("cpu"))
        source = self._sources.pop(target)
        self._cluster.forget(target.unit, source, others=self._sources.values())
        del self._active[target]
        self._begin(target)
