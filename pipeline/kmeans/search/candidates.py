"""What a search finds for some rows: the best two centroids by score, the candidates it chose from, and short lists.

Shapes: n rows, p candidates over all rows, K clusters, D width.
"""

import functools
import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.kmeans.search.centred import Centred

LIST_SIZE = 8
"""Centroids of a row that are kept for the next iteration: 8, 12 and 16 took the same time, within what it varies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lists:
    """Centroids of each row that a later search may choose from, instead of from all.

    Attributes:
        columns: uint16 (n, LIST_SIZE), the centroids of a row first, then anything.
        sizes: uint8 (n,), how many they are, at least one.
        outer: float32 (n,), the highest score of the centroids that are not listed, or more.
    """

    columns: np.ndarray
    sizes: np.ndarray
    outer: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The best of all centroids for some rows. Scores are float32, within a known error of the true ones.

    Attributes:
        tokens: int64 (n,), the best centroid by score.
        best: float32 (n,), its score.
        second: float32 (n,), the highest score of all others, or more.
        rows: int64 (p,), ascending, the row of each candidate; a row's best is one of its candidates.
        columns: int64 (p,), the candidate.
        outer: float32 (n,), the highest score of the centroids that are no candidates, or more.
        lists: Where they were asked for and cost little.
    """

    tokens: np.ndarray
    best: np.ndarray
    second: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    outer: np.ndarray
    lists: Lists | None = None


class Search(Protocol):
    """Centroids prepared for many searches."""

    def __call__(self, centred: Centred, with_lists: bool) -> Found:
        """Search the best two.

        Args:
            centred: n rows.
            with_lists: Give lists of the best if that costs little.
        """
        ...

    def highest(self, centred: Centred, some: np.ndarray, listed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Bound the scores of some centroids, float32 (n,): none is higher for the row, whatever was rounded.

        Args:
            centred: n rows.
            some: int64 (m,), the centroids; the same array object at every call for a table.
            listed: Pairs that do not count: int64 (q,) the row, int64 (q,) which of ``some``.
        """
        ...


def starts_of(rows: np.ndarray, num_rows: int) -> np.ndarray:
    """Give where the pairs of each row begin, int64 (n + 1,), from the row of each, ascending."""
    starts = np.zeros(num_rows + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=num_rows), out=starts[1:])
    return starts


def choose(
    rows: np.ndarray,
    starts: np.ndarray,
    columns: np.ndarray,
    scores: np.ndarray,
    outer: np.ndarray,
    lists: Lists | None = None,
) -> Found:
    """Choose among candidates; of equal scores the first.

    Args:
        rows: int64 (p,), ascending; every row from 0 to n - 1 occurs.
        starts: What ``starts_of`` gives for them.
        columns: int64 (p,), centroids.
        scores: float32 (p,).
        outer: float32 (n,), a bound of the scores of all other centroids.
        lists: What comes with them.
    """
    best = np.maximum.reduceat(scores, starts[:-1])
    highest = np.flatnonzero(scores == best[rows])
    if len(highest) > len(best):
        highest = highest[np.searchsorted(rows[highest], np.arange(len(best)))]
    rest = scores.copy()
    rest[highest] = -np.inf
    second = np.maximum(np.maximum.reduceat(rest, starts[:-1]), outer)
    return Found(
        tokens=columns[highest], best=best, second=second, rows=rows, columns=columns, outer=outer, lists=lists
    )


def candidate_scores(centred: Centred, table: Any, offsets: Any, starts: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compute the scores of chosen pairs of rows and centroids in float32, (p,).

    Args:
        centred: n rows.
        table: Torch tensor, float32 (K, D), centred centroids.
        offsets: Torch tensor, float32 (K,), minus half of their squared norms.
        starts: int64 (n + 1,), where the pairs of each row begin.
        columns: int64 (p,), their centroids.
    """
    import torch

    _silence_torch()
    numbers = torch.from_numpy(columns)
    # Rows and centroids of D values begin on cache lines where those of D + 1, ending in a one, would not.
    wanted = torch.sparse_csr_tensor(
        torch.from_numpy(starts), numbers, torch.index_select(offsets, 0, numbers), size=(len(starts) - 1, len(table))
    )
    scores: np.ndarray = torch.sparse.sampled_addmm(wanted, centred.rows, table.T).values().numpy()
    return scores


@functools.cache
def _silence_torch() -> None:
    """Let torch say once, to nobody, that its compressed rows are beta."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.zeros(1), size=(1, 1))
