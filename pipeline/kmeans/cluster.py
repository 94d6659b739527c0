"""The rows of a features dataset held in memory by Ray actors, and one exact Lloyd step over all of them.

Each actor holds the rows of its shards as float16, all layers. A step sends the centroids out once, and every
actor answers with exact integer sums, so centroids do not depend on how many actors there are or who holds what.
Memory: 2 * N * D * L bytes over all actors, and K * D * 16 bytes of sums from each.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from pipeline import faults
from pipeline.dataset import Dataset
from pipeline.features.feature_rows import feature_rows
from pipeline.features.sampling import frame_hash
from pipeline.kmeans.assignment import nearest
from pipeline.kmeans.lloyd import PartialSums, accumulate
from pipeline.kmeans.seeding import kmeans_plus_plus
from pipeline.reading import read_pieces
from pipeline.runtime import set_threads

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows of one layer with the smallest hashes, and where each comes from.

    Attributes:
        hashes: uint64 (n,).
        places: int64 (n, 2): number of the unit in the plan, row within it; decides between equal hashes.
        rows: float16 (n, D).
    """

    hashes: np.ndarray
    places: np.ndarray
    rows: np.ndarray

    def smallest(self, size: int) -> "Sample":
        """Keep the ``size`` rows of smallest hash, in the order of their hashes."""
        order = np.lexsort((self.places[:, 1], self.places[:, 0], self.hashes))[:size]
        return Sample(hashes=self.hashes[order], places=self.places[order], rows=self.rows[order])


def merge(samples: Sequence[Sample], size: int) -> Sample:
    """Join the samples of several actors into the one of the whole dataset."""
    joined = Sample(
        hashes=np.concatenate([sample.hashes for sample in samples]),
        places=np.concatenate([sample.places for sample in samples]),
        rows=np.concatenate([sample.rows for sample in samples]),
    )
    return joined.smallest(size)


class Partition:
    """The rows of some shards, and what is computed over them; becomes an actor in ``Cluster``."""

    def __init__(self, uri: str, units: Sequence[tuple[int, str]], layers: Sequence[int], threads: int) -> None:
        set_threads(threads)
        dataset = Dataset.open(uri, kind="features")
        dim = int(dataset.plan.lineage["dim"])
        self._places: list[np.ndarray] = []
        self._utterances: list[tuple[str, np.ndarray]] = []
        cells: dict[int, list[np.ndarray]] = {layer: [np.zeros((0, dim), np.float16)] for layer in layers}
        for number, unit in units:
            self._read(dataset, number, unit, cells, dim)
        self.rows = {layer: np.concatenate(cells.pop(layer)) for layer in layers}

    def _read(self, dataset: Dataset, number: int, unit: str, cells: dict[int, list[np.ndarray]], dim: int) -> None:
        begin = 0
        for table in read_pieces(dataset, unit):
            for row in feature_rows(table, list(cells), dim, f"{dataset.uri}/{unit}"):
                count = len(row.frames)
                self._utterances.append((row.utterance_id, row.frames))
                self._places.append(np.stack([np.full(count, number), np.arange(begin, begin + count)], axis=1))
                begin += count
                for layer, found in cells.items():
                    found.append(row.cells[layer])

    def largest(self) -> dict[int, float]:
        """Give the largest magnitude of each layer, which bounds its sums."""
        return {layer: float(np.abs(rows).max(initial=0)) for layer, rows in self.rows.items()}

    def sample(self, layer: int, size: int, seed: int) -> Sample:
        """Choose the rows of smallest hash of (seed, utterance id, frame)."""
        hashes = [frame_hash(seed, utterance_id, frames) for utterance_id, frames in self._utterances]
        whole = Sample(
            hashes=np.concatenate([np.zeros(0, np.uint64), *hashes]),
            places=np.concatenate([np.zeros((0, 2), np.int64), *self._places]),
            rows=self.rows[layer],
        )
        return whole.smallest(size)

    def step(self, centroids: Mapping[int, np.ndarray]) -> dict[int, tuple[PartialSums, int]]:
        """Assign all rows and sum them up by cluster.

        Args:
            centroids: float32 (K, D) by layer.

        Returns:
            By layer, the exact sums and the number of near-ties that were decided exactly.
        """
        faults.point("kmeans_step")
        result = {}
        for layer, table in centroids.items():
            found = nearest(self.rows[layer], table)
            result[layer] = (accumulate(self.rows[layer], table, found.tokens), found.num_close)
        return result


class Cluster:
    """Partitions of one features dataset on the actors of a Ray cluster."""

    def __init__(self, dataset: Dataset, layers: Sequence[int], *, num_workers: int, threads: int) -> None:
        units = list(enumerate(dataset.plan.units))
        # A restarted actor reads its shards again; its steps have no state, so they can be repeated.
        actor = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(Partition)
        self._actors: list[Any] = [
            actor.remote(dataset.uri, units[number::num_workers], list(layers), threads)
            for number in range(num_workers)
        ]

    def seed(self, layers: Sequence[int], *, num_clusters: int, size: int, seed: int, threads: int) -> dict[int, Any]:
        """Choose first centroids for layers by k-means++ on the rows of smallest hash.

        Returns:
            float32 (K, D) by layer.
        """
        start = ray.remote(num_cpus=0)(_seed)
        pending = {
            layer: start.remote(
                [actor.sample.remote(layer, size, seed) for actor in self._actors], size, num_clusters, seed, threads
            )
            for layer in layers
        }
        return {layer: ray.get(reference) for layer, reference in pending.items()}

    def step(self, centroids: Mapping[int, np.ndarray]) -> dict[int, tuple[PartialSums, int]]:
        """Run one Lloyd step of several layers over all rows."""
        shared = ray.put(dict(centroids))
        total: dict[int, tuple[PartialSums, int]] = {}
        for partial in ray.get([actor.step.remote(shared) for actor in self._actors]):
            for layer, (sums, num_close) in partial.items():
                if layer in total:
                    sums, num_close = total[layer][0].merged(sums), total[layer][1] + num_close
                total[layer] = (sums, num_close)
        return total

    def close(self) -> None:
        """Give the actors' memory back."""
        for actor in self._actors:
            ray.kill(actor)


def _seed(references: list[Any], size: int, num_clusters: int, seed: int, threads: int) -> np.ndarray:
    set_threads(threads)
    return kmeans_plus_plus(merge(ray.get(references), size).rows, num_clusters, seed)
