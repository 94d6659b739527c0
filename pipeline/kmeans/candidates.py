"""What an engine finds for some rows: the best two centroids by score, and others that are near the best.

Shapes: n rows, p candidates over all rows.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The best of all centroids for some rows. Scores are float32, within a known error of the true ones.

    Attributes:
        tokens: int64 (n,), the best centroid by score.
        best: float32 (n,), its score.
        second: float32 (n,), the highest score of all others, or more.
        rows: int64 (p,), ascending, the row of each candidate; a row's best is one of its candidates.
        columns: int64 (p,), the candidate.
        scores: float32 (p,), its score.
        outer: float32 (n,), the highest score of the centroids that are no candidates, or more.
    """

    tokens: np.ndarray
    best: np.ndarray
    second: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray
    outer: np.ndarray


class Search(Protocol):
    """Centroids prepared for many searches."""

    def __call__(self, rows: np.ndarray, errors: np.ndarray, width: float) -> Found:
        """Search the best two.

        Args:
            rows: float32 (n, D + 1), centred rows and a last column of ones.
            errors: float64 (n,), a bound of the errors of float32 scores.
            width: Centroids whose score is at most this far below the best are candidates too; engines that find no
                candidates beside the best ignore it.
        """
        ...


def choose(rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, outer: np.ndarray) -> Found:
    """Choose among candidates; of equal scores the first.

    Args:
        rows: int64 (p,), ascending; every row from 0 to n - 1 occurs.
        columns: int64 (p,), centroids.
        scores: float32 (p,).
        outer: float32 (n,), a bound of the scores of all other centroids.
    """
    all_rows = np.arange(len(outer))
    starts = np.searchsorted(rows, all_rows)
    best = np.maximum.reduceat(scores, starts)
    highest = np.flatnonzero(scores == best[rows])
    places = highest[np.searchsorted(rows[highest], all_rows)]
    rest = scores.copy()
    rest[places] = -np.inf
    second = np.maximum(np.maximum.reduceat(rest, starts), outer)
    return Found(
        tokens=columns[places], best=best, second=second, rows=rows, columns=columns, scores=scores, outer=outer
    )
