"""The state of one fit between iterations: what a checkpoint holds, and when to stop.

A fit that is read from its checkpoint goes on to the same bits as one that was never interrupted.
Shapes: K clusters, D width.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline import schema
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.fit.lloyd import inertia, relative_improvement, update
from pipeline.kmeans.fit.partition import Step
from pipeline.kmeans.search.tracking import SearchWork


@dataclass(frozen=True, kw_only=True)
class Target:
    """A codebook to be made.

    Attributes:
        layer: Encoder layer.
        num_clusters: K.
        quantizer: Stage of the residual quantiser, from 0.
    """

    layer: int
    num_clusters: int
    quantizer: int = 0

    @property
    def unit(self) -> str:
        """Its unit in the codebooks dataset."""
        return schema.codebook_unit(self.layer, self.num_clusters, self.quantizer)


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a fit ends.

    Attributes:
        max_iterations: After so many iterations.
        tolerance: When the inertia falls by less than this share in an iteration.
    """

    max_iterations: int
    tolerance: float


@dataclass(kw_only=True)
class Fit:
    """A fit after some iterations.

    Attributes:
        centroids: float32 (K, D), moved by the last iteration.
        counts: int64 (K,), rows of each cluster in the last iteration.
        inertia: Before the move of each iteration.
        empty: Clusters without rows, each split off a large one, of each iteration.
        work: How the tokens of all rows were found, over all iterations.
        stopped_by: ``tolerance``, ``iterations`` or ``time`` once it has ended.
        warm_iterations: Iterations of each share of the rows that it began on; the lists above begin anew after each.
    """

    centroids: np.ndarray
    counts: np.ndarray
    inertia: list[float] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    work: SearchWork = field(default_factory=SearchWork)
    stopped_by: str = ""
    warm_iterations: list[int] = field(default_factory=list)

    def advance(self, step: Step, stopping: Stopping) -> None:
        """Take one iteration in."""
        self.inertia.append(inertia(step.sums, step.squares, self.centroids))
        moved = update(step.sums, self.centroids)
        self.centroids, self.counts = moved.centroids, step.sums.counts
        self.empty.append(moved.num_empty)
        self.work += step.work
        if len(self.inertia) >= 2 and relative_improvement(*self.inertia[-2:]) < stopping.tolerance:
            self.stopped_by = "tolerance"
        elif len(self.inertia) >= stopping.max_iterations:
            self.stopped_by = "iterations"

    def widen(self) -> None:
        """Go on over more rows, with the centroids that were found on fewer."""
        self.warm_iterations.append(len(self.inertia))
        self.inertia, self.empty, self.stopped_by = [], [], ""

    def codebook(self, target: Target, lineage: dict[str, Any]) -> Codebook:
        """Give the codebook as it is now.

        Args:
            target: What is being made.
            lineage: Of the codebook, without what a fit adds.
        """
        return Codebook(
            layer=target.layer,
            centroids=self.centroids,
            counts=self.counts,
            inertia=np.array(self.inertia),
            lineage={
                **lineage,
                "layer": target.layer,
                "empty_clusters": self.empty,
                "warm_iterations": self.warm_iterations,
            },
            quantizer=target.quantizer,
        )

    def checkpoint(self, target: Target, lineage: dict[str, Any]) -> bytes:
        """Serialise the state."""
        state = {"stopped_by": self.stopped_by, "work": asdict(self.work)}
        return self.codebook(target, {**lineage, "checkpoint": state}).to_bytes()

    @classmethod
    def resume(cls, data: bytes, source: str) -> "Fit":
        """Read what ``checkpoint`` wrote.

        Raises:
            CorruptDatasetError: It is damaged.
        """
        saved = Codebook.from_bytes(data, source)
        state = saved.lineage["checkpoint"]
        return cls(
            centroids=saved.centroids,
            counts=saved.counts,
            inertia=saved.inertia.tolist(),
            empty=list(saved.lineage["empty_clusters"]),
            work=SearchWork(**state["work"]),
            stopped_by=state["stopped_by"],
            warm_iterations=list(saved.lineage["warm_iterations"]),
        )

    def line(self) -> str:
        """Say how far it is, in a few words."""
        if not self.inertia:
            return (
                f"begins on more frames after {sum(self.warm_iterations)} iterations"
                if self.warm_iterations
                else "begins"
            )
        fell = f", {relative_improvement(*self.inertia[-2:]):.3%} less" if len(self.inertia) > 1 else ""
        split = f", {self.empty[-1]} empty clusters split" if self.empty[-1] else ""
        return f"iteration {len(self.inertia)}, inertia {self.inertia[-1]:.6g}{fell}{split}"
