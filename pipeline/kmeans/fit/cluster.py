"""Partitions of features datasets, held by the actors of a runner: what a fit asks of all rows.

A step sends the centroids out once, to each node, and the answers, exact integers, are added up in a tree; so neither
the number of actors nor who holds which shard can change a bit. Memory of an answer: 16 * K * D bytes.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.kmeans.fit.parallel_seeding import gather
from pipeline.kmeans.fit.partition import Budget, Partition, Request, RowSet, Share, Step
from pipeline.kmeans.fit.sample import RowSample, merge
from pipeline.kmeans.fit.seeding import Seeding, kmeans_plus_plus, random_rows
from pipeline.store.completion import read_shard_table
from pipeline.store.dataset import Dataset
from pipeline.work.runner import Actors, Runner
from pipeline.work.runtime import set_threads
from pipeline.work.worker_shape import Node

logger = logging.getLogger(__name__)

# Of the memory that a node has for actors; the rest is for Python, Ray and torch themselves.
_MEMORY_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class FitShape:
    """The actors of a fit.

    Attributes:
        num_workers: Actors.
        num_cpus: CPUs of each, or a share of one.
        num_gpus: GPUs of each, or a share of one.
        budget: Memory of each.
    """

    num_workers: int
    num_cpus: float
    num_gpus: float
    budget: Budget

    def tell(self, num_frames: int, dim: int) -> None:
        """Warn where the memory is less than the work takes.

        Args:
            num_frames: Rows of all actors.
            dim: D.
        """
        needed = self.budget.kept_bytes(-(-num_frames // self.num_workers), dim)
        if needed > self.budget.num_bytes:
            logger.warning(
                "memory_per_worker is %.2f GB, but sums, state and the work on a block take %.2f GB, and will take it; "
                "all features lie on disk",
                self.budget.num_bytes / 1e9,
                needed / 1e9,
            )


def fit_shape(
    nodes: Sequence[Node],
    *,
    num_shards: int,
    num_workers: int | None,
    memory_per_worker: float | None,
    num_fits: int,
    num_clusters: int,
    num_sources: int,
    warm_start: float,
) -> FitShape:
    """Lay actors over the nodes that a runner has.

    Args:
        nodes: What they have.
        num_shards: Of the features; each is held by one actor.
        num_workers: Actors wanted; default: one a GPU, or one a CPU.
        memory_per_worker: GB of each; default: an equal share of most of the smallest node.
        num_fits: See ``Budget``.
        num_clusters: See ``Budget``.
        num_sources: See ``Budget``.
        warm_start: See ``Budget``.
    """
    nodes = [node for node in nodes if node.cpus]
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    wanted = num_workers or max(1, int(gpus or cpus))
    num_workers = min(wanted, num_shards)
    if memory_per_worker is not None:
        num_bytes = int(memory_per_worker * 1e9)
    else:
        a_node = -(-num_workers // len(nodes))
        num_bytes = int(_MEMORY_SHARE * min(node.memory for node in nodes) / a_node)
    return FitShape(
        num_workers=num_workers,
        # More workers than CPUs share them: an actor that waits for a CPU of its own would wait for ever.
        num_cpus=min(1.0, int(1000 * cpus / num_workers) / 1000),
        num_gpus=min(1.0, gpus / num_workers),
        budget=Budget(
            num_bytes=num_bytes,
            num_fits=num_fits,
            num_clusters=num_clusters,
            num_sources=num_sources,
            warm_start=warm_start,
        ),
    )


class Cluster:
    """The rows of features datasets, held by actors.

    Args:
        runner: Who starts the actors.
        datasets: The features, in an order that numbers their rows.
        layers: Layers to hold.
        num_workers: Actors; at most one a shard is of use.
        budget: Memory of each.
        num_cpus: CPUs of each, or a share of one.
        num_gpus: GPUs of each, or a share of one.
        seed: Of the hashes that choose samples.
        fraction: Share of the rows to hold.
        threads: Compute threads of each.
        engine: Of the search for nearest centroids; it changes no bit.
    """

    def __init__(
        self,
        runner: Runner,
        datasets: Sequence[Dataset],
        layers: Sequence[int],
        *,
        num_workers: int,
        budget: Budget,
        num_cpus: float = 1,
        num_gpus: float = 0,
        seed: int = 0,
        fraction: float = 1.0,
        threads: int = 1,
        engine: str = "auto",
    ) -> None:
        shares, begin = [], 0
        for dataset in datasets:
            for row in read_shard_table(dataset).select(["unit", "num_frames"]).to_pylist():
                shares.append(Share(uri=dataset.uri, unit=row["unit"], begin=begin, num_rows=row["num_frames"]))
                begin += row["num_frames"]
        # A restarted actor reads its shards again; what it answers does not depend on what it was asked before.
        self._actors = runner.actors(
            Partition,
            [
                (shares[number::num_workers], list(layers), budget, seed, threads, fraction, engine)
                for number in range(num_workers)
            ],
            cpus=num_cpus,
            gpus=num_gpus,
        )
        self._runner = runner
        # Of k-means++, which one node runs while the actors, spread over all, are idle: as many as it has of them.
        self._threads = threads * -(-num_workers // len(runner.nodes()))

    def load(self) -> int:
        """Wait until every actor holds its rows; give the number of those that did not fit into memory.

        Raises:
            CorruptDatasetError: A shard is damaged or holds a value that is not finite.
        """
        return sum(self._actors.ask("load"))

    def seed(self, source: RowSet, num_clusters: int, *, how: Seeding, sample_size: int, seed: int) -> np.ndarray:
        """Choose first centroids, float32 (K, D).

        Args:
            source: What the fit is over.
            num_clusters: K.
            how: Which seeding.
            sample_size: Rows that ``k-means++`` and ``random`` choose among.
            seed: Of the choices that hashes do not make.

        Raises:
            SettingsError: There are fewer than K distinct rows to choose among.
        """
        if how == "k-means||":
            found = gather(_AllRows(self._actors, source), self._sample(source, 1).rows, num_clusters)
            self._actors.ask("end_pull", source)
            return self._plus_plus(found.rows, num_clusters, seed, found.weights)
        sample = self._sample(source, sample_size).rows
        if how == "random":
            return random_rows(sample, num_clusters)
        return self._plus_plus(sample, num_clusters, seed)

    def step(self, requests: Mapping[str, Request]) -> dict[str, Step]:
        """Run one Lloyd step of several fits over all rows."""
        total: dict[str, Step] = self._actors.total(merge_steps, "step", dict(requests))
        return total

    def forget(self, fit: str, source: RowSet, *, others: Collection[RowSet]) -> None:
        """Give the memory of a finished fit back.

        Args:
            fit: Its name.
            source: What it was over.
            others: What the other fits are over.
        """
        unused = source.is_made and source.key not in {other.key for other in others}
        self._actors.ask("forget", fit, source.key if unused else None)

    def close(self) -> None:
        """End the actors."""
        self._actors.close()

    def _sample(self, source: RowSet, size: int) -> RowSample:
        return merge(self._actors.ask("sample", source, size), size)

    def _plus_plus(self, *arguments: Any) -> np.ndarray:
        """Run k-means++ on one node, on as many cores as the actors have there; they are idle."""
        (found,) = self._runner.tasks(_plus_plus, [arguments], shared=self._threads, workers=1, cpus=0)
        centroids: np.ndarray = found
        return centroids


class _AllRows:
    """The rows of all actors to ``parallel_seeding.gather``."""

    def __init__(self, actors: Actors, source: RowSet) -> None:
        self._actors = actors
        self._source = source

    def potential(self, rounds: Sequence[np.ndarray]) -> int:
        return sum(self._ask("potential", rounds))

    def choose(self, rounds: Sequence[np.ndarray], potential: int, expected: float) -> np.ndarray:
        return np.concatenate(self._ask("choose", rounds, potential, expected))

    def weights(self, rounds: Sequence[np.ndarray]) -> np.ndarray:
        found: np.ndarray = np.sum(self._ask("weights", rounds), axis=0)
        return found

    def _ask(self, name: str, rounds: Sequence[np.ndarray], *arguments: Any) -> list[Any]:
        answers = self._actors.ask("pull", self._source, name, list(rounds), *arguments)
        return [answer for of_actor in answers for answer in of_actor]


def merge_steps(*steps: Mapping[str, Step]) -> dict[str, Step]:
    """Add up the answers of several partitions; in any order the same."""
    total: dict[str, Step] = {}
    for step in steps:
        for name, part in step.items():
            total[name] = total[name].merged(part) if name in total else part
    return total


def _plus_plus(threads: int, *arguments: Any) -> np.ndarray:
    set_threads(1)
    return kmeans_plus_plus(*arguments, threads=min(threads, len(os.sched_getaffinity(0))))
