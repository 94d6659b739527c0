"""The K-means programs that ours is compared with, each in a process of its own (bench/kmeans.py).

``faiss``          faiss.Kmeans on every row; by default it would draw 256 a cluster
``superkmeans``    faiss.SuperKmeans on every row
``sklearn``        KMeans, algorithm lloyd
``minibatch``      MiniBatchKMeans with the settings of fairseq's simple_kmeans, k-means++ included, the best of 20
``minibatch_once`` the same with one k-means++

The first three begin with given centroids and run the iterations asked for; nothing stops them early. Rows are loaded
as float32, in the order a program wants, before ``ready``; times start at ``go``. The centroids go to a file.
Source: settings of the last two from facebookresearch/fairseq, examples/hubert/simple_kmeans/learn_kmeans.py.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.measuring import peak_bytes, restart_peak, wait_for_go

Settings = dict[str, Any]
FAISS_SEED = 1234
_BLOCK_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a program ends with.

    Attributes:
        centroids: float32 (K, D).
        iterations: Passes over the rows.
        inertia: Before each iteration's update, as the program computes it; empty where it does not tell.
        ends: Seconds from the first iteration's start to the end of each; empty where it does not tell.
    """

    centroids: np.ndarray
    iterations: int
    inertia: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


Work = Callable[[], Fitted]


def load_rows(settings: Settings) -> np.ndarray:
    """Give all rows, float32 (n, D)."""
    return np.load(settings["rows"], mmap_mode="r").astype(np.float32)


def faiss_kmeans(settings: Settings) -> Work:
    """Prepare faiss.Kmeans with given first centroids."""
    import faiss

    faiss.omp_set_num_threads(settings["threads"])
    rows, seeds = load_rows(settings), np.load(settings["seeds"])
    kmeans = faiss.Kmeans(
        rows.shape[1], settings["num_clusters"], niter=settings["iterations"], max_points_per_centroid=len(rows)
    )

    def work() -> Fitted:
        kmeans.train(rows, init_centroids=seeds)
        ends = [each["time"] for each in kmeans.iteration_stats]
        return Fitted(centroids=kmeans.centroids, iterations=len(ends), inertia=kmeans.obj.tolist(), ends=ends)

    return work


def superkmeans(settings: Settings) -> Work:
    """Prepare faiss.SuperKmeans, the rows in an order in which it draws the given first centroids by itself."""
    import faiss

    faiss.omp_set_num_threads(settings["threads"])
    rows = load_rows(settings)
    rows = rows[drawn_first(len(rows), np.load(settings["seed_places"]))]
    kmeans = faiss.SuperKmeans(
        rows.shape[1],
        settings["num_clusters"],
        niter=settings["iterations"],
        max_points_per_centroid=len(rows),
        seed=FAISS_SEED,
    )

    def work() -> Fitted:
        kmeans.train(rows)
        # Its seconds are those of each iteration alone, not since the first as those of faiss.Kmeans.
        ends = np.cumsum([each["time"] for each in kmeans.iteration_stats]).tolist()
        return Fitted(centroids=kmeans.centroids, iterations=len(ends), inertia=kmeans.obj.tolist(), ends=ends)

    return work


def drawn_first(num_rows: int, seed_places: np.ndarray) -> np.ndarray:
    """Give an order of rows in which faiss' own draw of first centroids takes the rows wanted.

    SuperKMeans takes no centroids; it begins with rows at the first K places of a permutation made from its seed + 1.

    Args:
        num_rows: n.
        seed_places: int64 (K,), the rows wanted, all different.

    Returns:
        int64 (n,), every row once.
    """
    import faiss

    permutation = np.empty(num_rows, np.int32)
    faiss.rand_perm(faiss.swig_ptr(permutation), num_rows, FAISS_SEED + 1)
    drawn, others = permutation[: len(seed_places)], np.sort(permutation[len(seed_places) :])
    order = np.empty(num_rows, np.int64)
    order[drawn] = seed_places
    order[others] = np.setdiff1d(np.arange(num_rows), seed_places)
    return order


def sklearn_lloyd(settings: Settings) -> Work:
    """Prepare scikit-learn's KMeans with given first centroids."""
    from sklearn.cluster import KMeans

    rows, seeds = load_rows(settings), np.load(settings["seeds"])
    kmeans = KMeans(
        settings["num_clusters"], init=seeds, n_init=1, max_iter=settings["iterations"], tol=0, algorithm="lloyd"
    )

    def work() -> Fitted:
        kmeans.fit(rows)
        return Fitted(centroids=kmeans.cluster_centers_, iterations=kmeans.n_iter_)

    return work


def minibatch(settings: Settings, num_init: int = 20) -> Work:
    """Prepare scikit-learn's MiniBatchKMeans as fairseq sets it up."""
    from sklearn.cluster import MiniBatchKMeans

    rows = load_rows(settings)
    kmeans = MiniBatchKMeans(
        settings["num_clusters"],
        init="k-means++",
        n_init=num_init,
        batch_size=10_000,
        max_iter=100,
        tol=0,
        max_no_improvement=100,
        reassignment_ratio=0,
        compute_labels=False,
        random_state=0,
    )

    def work() -> Fitted:
        kmeans.fit(rows)
        return Fitted(centroids=kmeans.cluster_centers_, iterations=kmeans.n_iter_)

    return work


def minibatch_once(settings: Settings) -> Work:
    """Prepare the same with a single choice of first centroids."""
    return minibatch(settings, num_init=1)


CONTENDERS: dict[str, Callable[[Settings], Work]] = {
    "faiss": faiss_kmeans,
    "superkmeans": superkmeans,
    "sklearn": sklearn_lloyd,
    "minibatch": minibatch,
    "minibatch_once": minibatch_once,
}


def exact_inertia(rows: Path, centroids: np.ndarray) -> float:
    """Sum the squared distances of all rows to their exact nearest centroids in float64: one judge for all programs.

    Args:
        rows: float16 (n, D) .npy.
        centroids: float32 (K, D).
    """
    from pipeline.kmeans.search.assignment import CentroidTable

    table, features = CentroidTable(centroids), np.load(rows, mmap_mode="r")
    sums = []
    for begin in range(0, len(features), _BLOCK_ROWS):
        block = np.ascontiguousarray(features[begin : begin + _BLOCK_ROWS])
        offsets = block.astype(np.float64) - centroids[table.nearest(block).tokens]
        sums.append(float(np.einsum("nd,nd->", offsets, offsets)))
    return math.fsum(sums)


def main() -> None:
    """Run the contender that the settings name; ``peak_bytes`` leaves out what only the loading took."""
    settings = json.loads(sys.argv[1])
    work = CONTENDERS[settings["contender"]](settings)
    restart_peak()
    wait_for_go()
    fitted = work()
    ended, peak = time.monotonic(), peak_bytes()
    np.save(settings["output"], fitted.centroids)
    told = {"iterations": fitted.iterations, "inertia": fitted.inertia, "ends": fitted.ends}
    print(json.dumps({"ended": ended, "peak_bytes": peak, **told}))


if __name__ == "__main__":
    main()
