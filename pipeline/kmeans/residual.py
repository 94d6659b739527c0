"""Residual vector quantisation: a chain of codebooks, each of what the ones before it leave of the features.

Stage 0 replaces a frame by its nearest centroid; stage q does so with the difference that stages 0 to q - 1 leave.
The sum of the centroids named by a frame's Q tokens is its reconstruction. A residual is a float64 difference rounded
once to float16: the same bits everywhere, and a multiple of 2^-24 again, which the exact sums of K-means count.
Cost of a residual: O(N * D). Memory: 2 * N * D bytes. Shapes: N rows, D width, K clusters, Q residual stages.

Source: B.-H. Juang and A. Gray, "Multiple stage vector quantization for speech coding", ICASSP 1982. Ours is greedy, a
nearest centroid a stage, and rounds what is left to float16.
"""

from collections.abc import Sequence

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, FeatureError
from pipeline.kmeans.codebook import Codebook

_PIECE_ROWS = 1024


def residual(features: np.ndarray, centroids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Subtract from each row the centroid that its token names.

    Args:
        features: float16 (N, D), finite.
        centroids: float32 (K, D), finite.
        tokens: Integers (N,) in [0, K).

    Returns:
        float16 (N, D).

    Raises:
        FeatureError: What is left of a row does not fit float16; the message names the row.
    """
    left = np.empty_like(features)
    for begin in range(0, len(features), _PIECE_ROWS):
        piece = slice(begin, begin + _PIECE_ROWS)
        # A value out of range becomes infinite here, and is refused by its row.
        with np.errstate(over="ignore"):
            left[piece] = features[piece].astype(np.float64) - centroids[tokens[piece]]
        fits = np.isfinite(left[piece]).all(axis=1)
        if not fits.all():
            row = begin + int(fits.argmin())
            raise FeatureError(
                f"row {row} minus its nearest centroid, {tokens[row]}, does not fit float16: it is too far from all"
            )
    return left


def left_by(book: Codebook, features: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Give the ``residual`` of a codebook's centroids; what is refused is named by layer and stage too."""
    try:
        return residual(features, book.centroids, tokens)
    except FeatureError as error:
        raise FeatureError(f"layer {book.layer}, stage {book.quantizer}: {error}") from error


def reduce_by(stages: Sequence[Codebook], features: np.ndarray) -> np.ndarray:
    """Give what the first stages of a chain leave of features.

    Args:
        stages: From stage 0 on, in order; none leaves the features as they are.
        features: float16 (N, D), finite.

    Returns:
        float16 (N, D).

    Raises:
        FeatureError: What is left of a row does not fit float16.
    """
    for book in stages:
        features = left_by(book, features, book.table.nearest(features).tokens)
    return features


def chains(codebooks: Sequence[Codebook]) -> dict[tuple[int, int], list[Codebook]]:
    """Group codebooks into chains.

    Args:
        codebooks: Of any layers, K and stages, in any order.

    Returns:
        By layer and K, ascending: the codebooks of stages 0 to Q - 1.

    Raises:
        CodebookMismatchError: A stage is missing, is there twice, or was fitted after others than those before it.
    """
    found = _grouped(codebooks)
    if faults := chain_faults(codebooks):
        raise CodebookMismatchError(
            f"codebooks make no chain of residual stages: {'; '.join(faults)}. "
            "Take all stages of a layer and K from one codebooks dataset"
        )
    return found


def chain_faults(codebooks: Sequence[Codebook]) -> list[str]:
    """Say of each layer and K why its codebooks make no chain; see ``chains``."""
    return [fault for chain in _grouped(codebooks).values() for fault in _faults(chain)]


def _grouped(codebooks: Sequence[Codebook]) -> dict[tuple[int, int], list[Codebook]]:
    found: dict[tuple[int, int], list[Codebook]] = {}
    for book in sorted(codebooks, key=lambda book: (book.layer, book.num_clusters, book.quantizer)):
        found.setdefault((book.layer, book.num_clusters), []).append(book)
    return found


def _faults(chain: Sequence[Codebook]) -> list[str]:
    """Check codebooks of one layer and K, in the order of their stages."""
    name = schema.codebook_unit(chain[0].layer, chain[0].num_clusters)
    stages = [book.quantizer for book in chain]
    if twice := sorted({stage for stage in stages if stages.count(stage) > 1}):
        return [f"{name} has several codebooks of stage {twice[0]}, there must be one"]
    if missing := sorted(set(range(stages[-1])) - set(stages)):
        return [f"{name} has stage {stages[-1]} but not stage {missing[0]}"]
    return [
        f"stage {book.quantizer} of {name} was fitted after other codebooks than those of the stages before it"
        for book in chain
        if book.prior_sha256 != [earlier.sha256 for earlier in chain[: book.quantizer]]
    ]
