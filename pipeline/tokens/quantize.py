"""Features to tokens: the nearest centroid of every frame, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.kmeans.assignment import nearest
from pipeline.kmeans.codebook import Codebook

MAX_CLUSTERS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Tokens of one utterance.

    Attributes:
        tokens: By layer, uint16 (T,) in [0, K).
        num_close: Tokens so nearly tied that float32 could not decide them; they were decided exactly.
    """

    tokens: dict[int, np.ndarray]
    num_close: int


def quantize(features: Mapping[int, np.ndarray], codebooks: Sequence[Codebook], *, engine: str = "auto") -> Quantized:
    """Give the tokens of one utterance.

    Args:
        features: By layer, float16 (T, D).
        codebooks: One a layer.
        engine: See ``nearest``; it changes no token.

    Returns:
        The tokens of every layer that has a codebook.
    """
    found = {book.layer: nearest(features[book.layer], book.centroids, engine=engine) for book in codebooks}
    return Quantized(
        tokens={layer: near.tokens.astype(np.uint16) for layer, near in found.items()},
        num_close=sum(near.num_close for near in found.values()),
    )


def check_codebooks(codebooks: Sequence[Codebook], *, encoder_sha256: str, dim: int) -> None:
    """Refuse codebooks that were not fitted on the features of this encoder.

    Args:
        codebooks: Codebooks to be used together.
        encoder_sha256: Hash of the encoder.
        dim: Its width.

    Raises:
        CodebookMismatchError: Another encoder, width, or two codebooks for one layer.
        SettingsError: K does not fit uint16.
    """
    layers = [book.layer for book in codebooks]
    if len(set(layers)) != len(layers):
        raise CodebookMismatchError(f"there must be one codebook a layer, got layers {sorted(layers)}")
    for book in codebooks:
        name = schema.codebook_name(book.layer, book.num_clusters)
        if book.num_clusters > MAX_CLUSTERS:
            raise SettingsError(f"{name}: tokens are uint16, so K is at most {MAX_CLUSTERS}, got {book.num_clusters}")
        if book.encoder != encoder_sha256:
            raise CodebookMismatchError(
                f"{name} was fitted on the encoder {book.lineage.get('encoder')} ({book.encoder[:12]}...), this one is "
                f"{encoder_sha256[:12]}...; use that encoder or fit codebooks for this one"
            )
        if book.dim != dim:
            raise CodebookMismatchError(f"{name} has D = {book.dim}, the encoder gives {dim}")
