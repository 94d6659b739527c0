"""The matrix products behind the search for nearest centroids: they differ in speed, never in a token.

An engine prepares centred centroids, float32 (K, D), and minus half of their squared norms, float32 (K,).
``assignment`` bounds the errors of its float32 scores and decides what they leave open.
"""

import functools
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pipeline.errors import SettingsError
from pipeline.kmeans.search.candidates import Found, Search
from pipeline.kmeans.search.centred import Centred
from pipeline.kmeans.search.screening import ScreenedSearch, can_screen, is_faster
from pipeline.settings import Settings

Engine = Literal["auto", "int8", "faiss", "faiss-gpu", "torch"]
ENGINES: tuple[str, ...] = get_args(Engine)

_EXTRA = {"faiss": "cpu", "faiss-gpu": "gpu"}
_INSTALL = 'pip install "strata-tokens[{}]", or choose the engine torch'
_GPU_SCRATCH_BYTES = 256 << 20
"""faiss takes 1.5 GiB of a GPU by default, whatever the search; the encoder needs the memory more."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings(Settings):
    """How nearest centroids are searched for."""

    engine: Engine = "auto"
    """What computes products in the search of nearest centroids; no codebook and no token changes by it. auto takes
    torch on a GPU, else the faster of int8 and faiss; faiss runs on the CPU, faiss-gpu on a GPU (extra [gpu])."""

    def __post_init__(self) -> None:
        check_engine(self.engine)


def check_engine(name: str) -> None:
    """Refuse an engine whose library is not installed here; needs neither a GPU nor torch.

    Raises:
        SettingsError: It is unknown or not installed.
    """
    if name not in ENGINES:
        raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    if name in _EXTRA and importlib.util.find_spec("faiss") is None:
        raise SettingsError(f"the engine {name} is not installed; {_INSTALL.format(_EXTRA[name])}")
    if name == "faiss-gpu" and not hasattr(_faiss(name), "StandardGpuResources"):
        raise SettingsError(
            "the engine faiss-gpu needs faiss with GPU support, and this is faiss-cpu: "
            f"pip uninstall faiss-cpu, then {_INSTALL.format('gpu')}"
        )


def check_gpus(name: str, num_gpus: float) -> None:
    """Refuse an engine that needs a GPU where each worker would have none.

    Raises:
        SettingsError: That is so.
    """
    if name == "faiss-gpu" and not num_gpus:
        raise SettingsError("the engine faiss-gpu needs a GPU, and the workers have none; choose --engine auto")


def engine(name: str, num_clusters: int, dim: int) -> Callable[[np.ndarray, np.ndarray], Search]:
    """Choose the function that prepares a table.

    Args:
        name: One of ``ENGINES``; ``auto`` is the fastest that runs here.
        num_clusters: K.
        dim: D.

    Raises:
        SettingsError: It is unknown or cannot run here.
    """
    check_engine(name)
    if name == "torch" or (name == "auto" and _on_gpu()):
        return TorchSearch
    if name == "int8" or (name == "auto" and is_faster(num_clusters, dim)):
        if not can_screen(dim):
            raise SettingsError(
                f"the engine int8 cannot search {dim:,} columns here: it needs a processor with VNNI instructions and "
                "at most 4,096 columns; choose the engine auto"
            )
        return ScreenedSearch
    if name == "faiss-gpu":
        if not _faiss(name).get_num_gpus():
            raise SettingsError("the engine faiss-gpu finds no GPU here; choose the engine auto")
        return FaissGpuSearch
    try:
        _faiss("faiss")
    except SettingsError:
        if name == "auto":
            return TorchSearch
        raise
    return FaissSearch


def _faiss(name: str) -> Any:
    try:
        import faiss
    except (ImportError, RuntimeError) as error:
        # faiss-gpu raises RuntimeError where the libraries of CUDA are missing.
        raise SettingsError(f"the engine {name} cannot be loaded ({error}); {_INSTALL.format(_EXTRA[name])}") from error
    return faiss


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


class TorchSearch:
    """One float32 product by torch, on a GPU where there is one.

    Args:
        table: float32 (K, D), centred centroids.
        offsets: float32 (K,), minus half of their squared norms.
    """

    def __init__(self, table: np.ndarray, offsets: np.ndarray) -> None:
        import torch

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._products = torch.from_numpy(table).to(self._device).T
        self._offsets = torch.from_numpy(offsets).to(self._device)

    def __call__(self, centred: Centred, with_lists: bool) -> Found:
        """Search; see ``candidates.Search``."""
        best = self._scores(centred, self._products, self._offsets).topk(2, dim=1)
        return _of_top_two(best.values.cpu().numpy(), best.indices.cpu().numpy())

    def highest(self, centred: Centred, some: np.ndarray, listed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Bound the scores of some centroids; see ``candidates.Search``."""
        scores = self._scores(centred, self._products[:, some], self._offsets[some]).cpu().numpy()
        scores[listed] = -np.inf
        highest = (scores.max(axis=1) + centred.errors).astype(np.float32)
        above: np.ndarray = np.nextafter(highest, np.float32(np.inf))
        return above

    def _scores(self, centred: Centred, products: Any, offsets: Any) -> Any:
        import torch

        # The bound holds for float32 products; torch may be set to multiply in TF32 or bfloat16.
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        try:
            return torch.addmm(offsets, centred.rows.to(self._device), products)
        finally:
            if precision != "highest":
                torch.set_float32_matmul_precision(precision)


class FaissSearch(TorchSearch):
    """One float32 product by faiss on the CPU, which finds the best two as it goes.

    Args:
        table: float32 (K, D), centred centroids.
        offsets: float32 (K,), minus half of their squared norms.
    """

    def __init__(self, table: np.ndarray, offsets: np.ndarray) -> None:
        super().__init__(table, offsets)
        self._table = np.concatenate([table, offsets[:, None]], axis=1)

    def __call__(self, centred: Centred, with_lists: bool) -> Found:
        """Search; see ``candidates.Search``."""
        num_rows, dim = centred.rows.shape
        rows = centred.scratch.take("rows and one", num_rows, dim + 1, "float32")
        rows[:, :dim] = centred.rows
        rows[:, dim] = 1
        return _of_top_two(*self._knn(rows.numpy()))

    def _knn(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give scores, float32 (n, 2), and centroids, int64 (n, 2), of the best two, from rows float32 (n, D + 1)."""
        import faiss

        # As a search by inner product it takes 0.32 s for 20,000 x 1000 x 768 on one core, by L2 0.54 s.
        scores, found = faiss.knn(rows, self._table, 2, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, found


class FaissGpuSearch(FaissSearch):
    """The same by faiss on a GPU, in float32: faiss keeps cuBLAS from anything less exact."""

    def _knn(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        resources, lock = _gpu_resources()
        with lock:
            scores, found = faiss.knn_gpu(resources, rows, self._table, 2, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, found


@functools.cache
def _gpu_resources() -> tuple[Any, threading.Lock]:
    """Give what all tables of this process share of a GPU, and the lock around it: it serves one search at a time."""
    import faiss

    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_GPU_SCRATCH_BYTES)
    return resources, threading.Lock()


def _of_top_two(scores: np.ndarray, found: np.ndarray) -> Found:
    best, second, tokens = scores[:, 0], scores[:, 1], found[:, 0].astype(np.int64)
    rows = np.arange(len(scores))
    return Found(tokens=tokens, best=best, second=second, rows=rows, columns=tokens, outer=second)
