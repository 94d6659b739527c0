"""Features to tokens: each frame of a layer becomes the index of the nearest centroid of the layer's codebook.

Shapes: T frames, D width, K clusters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.kmeans.codebook import MAX_CLUSTERS, Codebook


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Tokens of one utterance.

    Attributes:
        tokens: By layer, in the order of the codebooks, uint16 (T,) in [0, K).
        num_close: Tokens so nearly tied that float32 could not decide them; they were decided exactly.
    """

    tokens: dict[int, np.ndarray]
    num_close: int


def check_codebooks(
    codebooks: Sequence[Codebook], *, encoder_sha256: str, dim: int, layers: Sequence[int] | None = None
) -> None:
    """Refuse codebooks that do not belong to an encoder's features.

    Args:
        codebooks: One codebook a layer.
        encoder_sha256: SHA-256 of the encoder's weights.
        dim: Width of its features (D).
        layers: Layers whose features exist, default any.

    Raises:
        CodebookMismatchError: There is none, two are of one layer, or one was fitted on another encoder, width or
            layer. The message names every difference.
        SettingsError: One has more clusters than a uint16 token can name.
    """
    faults = [] if codebooks else ["there is no codebook"]
    for layer, count in Counter(book.layer for book in codebooks).items():
        if count > 1:
            faults.append(f"layer {layer} has {count} codebooks, there must be one")
    for book in codebooks:
        _check_size(book)
        if book.encoder != encoder_sha256:
            faults.append(f"layer {book.layer} was fitted on encoder {book.encoder}, the features are {encoder_sha256}")
        if book.dim != dim:
            faults.append(f"layer {book.layer} has width {book.dim}, the features have {dim}")
        if layers is not None and book.layer not in layers:
            faults.append(f"layer {book.layer} is not among the features' layers {sorted(layers)}")
    if faults:
        raise CodebookMismatchError(
            f"codebooks do not belong to the features: {'; '.join(faults)}. "
            "Fit codebooks on features of this encoder, or use the encoder they were fitted on"
        )


def quantize(features: Mapping[int, np.ndarray], codebooks: Sequence[Codebook], *, engine: str = "auto") -> Quantized:
    """Turn the features of an utterance into tokens.

    Args:
        features: float16 (T, D) by layer; layers without a codebook are left out.
        codebooks: One codebook a layer.
        engine: An engine of ``assignment.nearest``; it changes the speed, never a token.

    Returns:
        The tokens of every layer that has a codebook.

    Raises:
        CodebookMismatchError: A codebook's layer has no features, or features of another width.
        SettingsError: A codebook has more clusters than a uint16 token can name.
        ValueError: Features are not float16 or not finite.
    """
    tokens, num_close = {}, 0
    for book in codebooks:
        _check_size(book)
        if book.layer not in features:
            raise CodebookMismatchError(
                f"there are features of layers {sorted(features)}, none for the codebook of layer {book.layer}"
            )
        found = features[book.layer]
        if found.ndim != 2 or found.shape[1] != book.dim:
            raise CodebookMismatchError(
                f"layer {book.layer} has features {found.shape}, its codebook has width {book.dim}"
            )
        near = book.table.nearest(found, engine=engine)
        tokens[book.layer] = near.tokens.astype(np.uint16)
        num_close += near.num_close
    return Quantized(tokens=tokens, num_close=num_close)


def _check_size(book: Codebook) -> None:
    if book.num_clusters > MAX_CLUSTERS:
        raise SettingsError(
            f"the codebook of layer {book.layer} has {book.num_clusters} clusters; a uint16 token names at most "
            f"{MAX_CLUSTERS}; fit it with fewer"
        )
