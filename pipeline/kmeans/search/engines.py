"""The matrix products behind the search for nearest centroids: they differ in speed, never in a token.

An engine prepares centred centroids, float32 (K, D), and minus half of their squared norms, float32 (K,).
``assignment`` bounds the errors of its float32 scores and decides what they leave open.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.kmeans.search.candidates import Found, Search
from pipeline.kmeans.search.centred import Centred
from pipeline.kmeans.search.screening import ScreenedSearch, is_faster

ENGINES = ("auto", "int8", "faiss", "torch")


def engine(name: str, num_clusters: int, dim: int) -> Callable[[np.ndarray, np.ndarray], Search]:
    """Choose the function that prepares a table.

    Args:
        name: One of ``ENGINES``; ``auto`` is the fastest that runs here.
        num_clusters: K.
        dim: D.

    Raises:
        SettingsError: It is unknown or cannot run here.
    """
    if name == "torch" or (name == "auto" and _on_gpu()):
        return TorchSearch
    if name == "int8" or (name == "auto" and is_faster(num_clusters, dim)):
        return ScreenedSearch
    if name not in ENGINES:
        raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        if name == "auto":
            return TorchSearch
        raise SettingsError(
            'the engine faiss is not installed; pip install "strata-tokens[cpu]", or use the engine torch'
        ) from error
    return FaissSearch


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
    """One float32 product by faiss, which finds the best two as it goes; on GPUs where faiss-gpu is installed.

    Args:
        table: float32 (K, D), centred centroids.
        offsets: float32 (K,), minus half of their squared norms.
    """

    def __init__(self, table: np.ndarray, offsets: np.ndarray) -> None:
        import faiss

        super().__init__(table, offsets)
        self._table = np.concatenate([table, offsets[:, None]], axis=1)
        self._on_gpu = faiss.StandardGpuResources() if getattr(faiss, "get_num_gpus", int)() else None

    def __call__(self, centred: Centred, with_lists: bool) -> Found:
        """Search; see ``candidates.Search``."""
        import faiss

        # As a search by inner product it takes 0.32 s for 20,000 x 1000 x 768 on one core, by L2 0.54 s.
        inner = faiss.METRIC_INNER_PRODUCT
        rows = np.concatenate([centred.rows.numpy(), np.ones((len(centred.rows), 1), np.float32)], axis=1)
        if self._on_gpu is not None:
            scores, found = faiss.knn_gpu(self._on_gpu, rows, self._table, 2, metric=inner)
        else:
            scores, found = faiss.knn(rows, self._table, 2, metric=inner)
        return _of_top_two(scores, found)


def _of_top_two(scores: np.ndarray, found: np.ndarray) -> Found:
    best, second, tokens = scores[:, 0], scores[:, 1], found[:, 0].astype(np.int64)
    rows = np.arange(len(scores))
    return Found(tokens=tokens, best=best, second=second, rows=rows, columns=tokens, outer=second)
