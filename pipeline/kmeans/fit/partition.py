"""The rows of some shards of features datasets, and what K-means computes over them; an actor in ``cluster``.

Fits of several layers and numbers of clusters share the rows. Rows past the memory budget lie on the local disk. What
a fit keeps from one iteration to the next saves work only: an actor that begins anew, in the middle of a fit, gives
the same answers. Shapes: N rows of all partitions, n rows of this one, D width, K clusters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import faults
from pipeline.errors import CorruptDatasetError
from pipeline.features.feature_rows import FeatureRow, feature_rows
from pipeline.features.samples.hashing import draws, frame_hash
from pipeline.kmeans.fit.lloyd import PartialSums, RunningSums, sum_squares, summing_bytes, sums_bytes
from pipeline.kmeans.fit.parallel_seeding import PartitionPull
from pipeline.kmeans.fit.row_store import RowStore
from pipeline.kmeans.fit.sample import RowSample
from pipeline.kmeans.residual import residual
from pipeline.kmeans.search.assignment import BLOCK_BYTES, CentroidTable
from pipeline.kmeans.search.tracking import BYTES_PER_ROW, SearchWork, Tracker
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_pieces
from pipeline.work.runtime import set_threads

BLOCK_ROWS = 8192
_LEAST_BLOCK_BYTES = 4 << 20
# Number and hash of a row.
_NAMING_BYTES = 16

# Which of a frame's random numbers decides whether it is in the fraction; k-means|| takes the first few.
_FRACTION_DRAW = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Share:
    """A shard that a partition holds.

    Attributes:
        uri: The features dataset that it is of.
        unit: The shard.
        begin: Number of its first row among the N rows of all datasets.
        num_rows: Its rows.
    """

    uri: str
    unit: str
    begin: int
    num_rows: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RowSet:
    """What a fit is over: the features of a layer, or what earlier stages of a residual quantiser leave of them.

    Attributes:
        layer: Encoder layer.
        prior: Centroids float32 (K, D) of the stages before, in order; each row gives up its nearest.
        name: Names layer and prior: the same name means the same.
        fraction: Share of the rows, those of smallest draw; a smaller one holds a subset.
    """

    layer: int
    prior: tuple[np.ndarray, ...]
    name: str
    fraction: float = 1.0

    @property
    def key(self) -> str:
        """Name of the rows."""
        return self.name if self.fraction == 1 else f"{self.name}@{self.fraction:g}"

    @property
    def is_made(self) -> bool:
        """Whether rows are made for it, beside those that were loaded."""
        return bool(self.prior) or self.fraction < 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One Lloyd step of a fit: what over, and centroids float32 (K, D)."""

    source: RowSet
    centroids: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What rows contribute to a Lloyd step.

    Attributes:
        sums: Exact sums by cluster.
        squares: What ``lloyd.sum_squares`` gives for the rows.
        work: How their tokens were found.
    """

    sums: PartialSums
    squares: int
    work: SearchWork

    def merged(self, other: "Step") -> "Step":
        """Add what other rows contribute; in any order the same."""
        return Step(
            sums=self.sums.merged(other.sums), squares=self.squares + other.squares, work=self.work + other.work
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a partition may take beside what a process takes that has imported torch.

    Attributes:
        num_bytes: For rows, what fits keep about them, sums, and the work on a block; rows past it go to disk.
        num_fits: Fits that keep something about each row at the same time.
        num_clusters: The largest K of these.
        num_sources: Sets of rows held at the same time beside those of the layers, of residual stages.
        warm_start: Share of the rows that is held once more for each set, for fits that begin on it.
    """

    num_bytes: int
    num_fits: int
    num_clusters: int
    num_sources: int = 0
    warm_start: float = 0.0

    @property
    def block_bytes(self) -> int:
        """What a search may take for the rows that it works on; less only makes it slower."""
        return min(BLOCK_BYTES, max(_LEAST_BLOCK_BYTES, self.num_bytes // 8))

    def kept_bytes(self, num_rows: int, dim: int) -> int:
        """Give what is taken whether or not rows are in memory: work, sums, and state of every row."""
        sums = self.num_fits * sums_bytes(self.num_clusters, dim) + summing_bytes(self.num_clusters, dim)
        # Candidates and bounds of a block are about as much as its products.
        work = 2 * self.block_bytes + 2 * BLOCK_ROWS * dim
        return work + sums + num_rows * (_NAMING_BYTES + BYTES_PER_ROW * self.num_fits)

    def max_resident(self, num_rows: int, num_layers: int, dim: int) -> tuple[int, int]:
        """Give the rows of each set that fit, and those of its share to begin on, which comes first."""
        left = max(0, self.num_bytes - self.kept_bytes(num_rows, dim))
        fitting = left // (2 * dim * (num_layers + self.num_sources))
        begun_on = min(fitting, math.ceil(self.warm_start * num_rows))
        return fitting - begun_on, begun_on


@dataclass
class _Fit:
    tracker: Tracker
    sums: RunningSums


class Partition:
    """Rows of some shards, read when they are first asked for; see the module.

    Args:
        shares: The shards to hold, at least one.
        layers: Layers to hold.
        budget: Memory.
        seed: Of the hashes that choose samples.
        fraction: Share of the rows to hold, those of smallest draw; a smaller one holds a subset.
        threads: Compute threads.
        engine: Of the search for nearest centroids; it changes no bit.
    """

    def __init__(
        self,
        shares: Sequence[Share],
        layers: Sequence[int],
        budget: Budget,
        seed: int,
        threads: int,
        fraction: float = 1.0,
        engine: str = "auto",
    ) -> None:
        set_threads(threads)
        num_rows = math.ceil(fraction * sum(share.num_rows for share in shares))
        uris = dict.fromkeys(share.uri for share in shares)
        self._datasets = {uri: Dataset.open(uri, kind="features") for uri in uris}
        self._shares, self._layers, self._seed, self._fraction = shares, layers, seed, fraction
        self._block_bytes, self._engine = budget.block_bytes, engine
        self._dim = int(self._datasets[shares[0].uri].plan.lineage["dim"])
        self._max_resident, self._max_begun_on = budget.max_resident(num_rows, len(layers), self._dim)
        self._numbers = np.zeros(0, np.int64)
        self._hashes = np.zeros(0, np.uint64)
        self._rows: dict[str, RowStore] = {}
        self._squares: dict[str, int] = {}
        self._fits: dict[str, _Fit] = {}
        self._pulls: dict[str, list[PartitionPull]] = {}

    def load(self) -> int:
        """Read the rows, unless they are there; give the number of those, of a layer, that did not fit into memory.

        Not done at the beginning, because Ray tells of an error there as of the actor's death.

        Raises:
            CorruptDatasetError: A shard is damaged, holds another number of rows, or a value that is not finite.
        """
        if not self._rows:
            # It takes seconds, which would else be the first step's.
            import torch  # noqa: F401

            capacity = sum(share.num_rows for share in self._shares)
            stores = {
                layer: RowStore(self._dim, num_rows=capacity, max_resident=self._max_resident) for layer in self._layers
            }
            self._numbers, self._hashes = np.empty(capacity, np.int64), np.empty(capacity, np.uint64)
            filled = 0
            for share in self._shares:
                filled = self._read(share, stores, filled)
            self._numbers, self._hashes = self._numbers[:filled], self._hashes[:filled]
            self._rows = {str(layer): store for layer, store in stores.items()}
            # What Arrow read into it keeps for the next reading, which does not come.
            pa.default_memory_pool().release_unused()
        return max(store.num_rows - store.num_resident for store in self._rows.values())

    def _read(self, share: Share, stores: Mapping[int, RowStore], filled: int) -> int:
        """Read a shard into the stores; give how many rows are kept, after as many as were before."""
        dataset, source, seen = self._datasets[share.uri], f"{share.uri}/{share.unit}", 0
        for table in read_pieces(dataset, share.unit):
            for row in feature_rows(table, list(stores), self._dim, source):
                count = len(row.frames)
                if seen + count > share.num_rows:
                    break
                hashes = frame_hash(self._seed, row.utterance_id, row.frames)
                # Features may be a sample of smallest hashes already, so it is another number that is small here.
                kept = np.flatnonzero(draws(hashes, _FRACTION_DRAW) < self._fraction)
                place = slice(filled, filled + len(kept))
                self._numbers[place], self._hashes[place] = share.begin + seen + kept, hashes[kept]
                filled, seen = filled + len(kept), seen + count
                for layer, store in stores.items():
                    _check_finite(row, layer, source)
                    store.append(row.cells[layer][kept] if len(kept) < count else row.cells[layer])
        if seen != share.num_rows:
            raise CorruptDatasetError(
                f"{source} does not hold the {share.num_rows} frames that its commit names; run verify_dataset"
            )
        return filled

    def sample(self, source: RowSet, size: int) -> RowSample:
        """Choose the rows of smallest hash of (seed, utterance id, frame)."""
        store = self._store(source)
        order = np.lexsort((self._numbers, self._hashes))[:size]
        return RowSample(hashes=self._hashes[order], numbers=self._numbers[order], rows=store.take(order))

    def step(self, requests: Mapping[str, Request]) -> dict[str, Step]:
        """Assign all rows to centroids and sum them up by cluster.

        Args:
            requests: By the name of the fit. The centroids of a fit follow one another.
        """
        faults.point("kmeans_step")
        result = {}
        for name, request in requests.items():
            store = self._store(request.source)
            if name not in self._fits:
                self._fits[name] = _Fit(
                    Tracker(store.num_rows, engine=self._engine), RunningSums(*request.centroids.shape)
                )
            fit = self._fits[name]
            fit.tracker.move(CentroidTable(request.centroids, block_bytes=self._block_bytes))
            for begin, block in store.blocks(BLOCK_ROWS):
                before = fit.tracker.assign(begin, block)
                fit.sums.move(block, before, fit.tracker.tokens[begin : begin + len(block)])
            squares = self._squares[request.source.key]
            result[name] = Step(sums=fit.sums.total(), squares=squares, work=fit.tracker.work)
        return result

    def pull(self, source: RowSet, name: str, *arguments: Any) -> Any:
        """Call a method of ``parallel_seeding.PartitionPull`` on the rows in memory and on those on disk."""
        if source.key not in self._pulls:
            parts = self._store(source).arrays()
            ends = np.cumsum([len(part) for part in parts])
            hashes = [self._hashes[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]
            self._pulls[source.key] = [PartitionPull(part, found) for part, found in zip(parts, hashes, strict=True)]
        return [getattr(part, name)(*arguments) for part in self._pulls[source.key]]

    def end_pull(self, source: RowSet) -> None:
        """Give the memory of a seeding back."""
        self._pulls.pop(source.key, None)

    def forget(self, fit: str, source: str | None) -> None:
        """Give the memory of a finished fit back, and that of rows which no other fit is over.

        Args:
            fit: Its name.
            source: The ``key`` of these rows.
        """
        self._fits.pop(fit, None)
        if source is not None:
            self._rows.pop(source, None)

    def _store(self, source: RowSet) -> RowStore:
        """Give the rows of a source, made at the first call."""
        self.load()
        if source.key not in self._rows:
            make = self._keep_fraction if source.fraction < 1 else self._reduce
            self._rows[source.key] = make(source)
        store = self._rows[source.key]
        if source.key not in self._squares:
            self._squares[source.key] = sum(sum_squares(block) for _, block in store.blocks(BLOCK_ROWS))
        return store

    def _keep_fraction(self, source: RowSet) -> RowStore:
        whole = self._store(replace(source, fraction=1.0))
        kept = draws(self._hashes, _FRACTION_DRAW) < self._fraction * source.fraction
        made = RowStore(whole.dim, num_rows=int(kept.sum()), max_resident=self._max_begun_on)
        for begin, block in whole.blocks(BLOCK_ROWS):
            made.append(block[kept[begin : begin + len(block)]])
        return made

    def _reduce(self, source: RowSet) -> RowStore:
        whole = self._rows[str(source.layer)]
        made = RowStore(whole.dim, num_rows=whole.num_rows, max_resident=self._max_resident)
        tables = [CentroidTable(centroids, block_bytes=self._block_bytes) for centroids in source.prior]
        for _, block in whole.blocks(BLOCK_ROWS):
            left = block
            for table in tables:
                left = residual(left, table.centroids, table.nearest(left, engine=self._engine).tokens)
            made.append(left)
        return made


def _check_finite(row: FeatureRow, layer: int, source: str) -> None:
    finite = np.isfinite(row.cells[layer]).all(axis=1)
    if not finite.all():
        raise CorruptDatasetError(
            f"{source}: layer {layer} of {row.utterance_id} has a value that is not finite in frame "
            f"{row.frames[int(finite.argmin())]}; remove the utterance or extract its features again"
        )
