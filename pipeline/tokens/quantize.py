"""Features to tokens: each frame of a layer becomes the index of the nearest centroid of the layer's codebook.

Where a layer has a chain of codebooks, each further one quantises what the ones before it leave (``residual.py``).
Shapes: T frames, D width, K clusters, Q residual stages.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.kmeans.codebook import MAX_CLUSTERS, Codebook
from pipeline.kmeans.residual import chain_faults, chains, left_by


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Tokens of one utterance.

    Attributes:
        tokens: By layer, ascending, uint16 in [0, K): (T,), or (T, Q) where the layer has Q > 1 residual stages.
        num_close: Tokens so nearly tied that float32 could not decide them; they were decided exactly.
    """

    tokens: dict[int, np.ndarray]
    num_close: int

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Tokens by column of a dataset, as ``layer_07`` and ``layer_07_q1``, uint16 (T,) each."""
        return {
            schema.token_column(layer, quantizer): ids
            for layer, found in self.tokens.items()
            for quantizer, ids in enumerate(np.atleast_2d(found.T))
        }


def check_codebooks(
    codebooks: Sequence[Codebook],
    *,
    encoder_sha256: str,
    dim: int,
    layers: Sequence[int] | None = None,
    normalize_waveform: bool | None = None,
) -> None:
    """Refuse codebooks that do not belong to an encoder's features.

    Args:
        codebooks: Of each layer one codebook, or the stages of one chain.
        encoder_sha256: SHA-256 of the encoder's weights.
        dim: Width of its features (D).
        layers: Layers whose features exist, default any.
        normalize_waveform: Whether the encoder hears normalised waveforms, default not known.

    Raises:
        CodebookMismatchError: There is none, two are of one layer and stage, stages do not follow from each other,
            or one was fitted on another encoder, width or layer, or on waveforms that were normalised otherwise. The
            message names every difference.
        SettingsError: One has more clusters than a uint16 token can name.
    """
    faults = [] if codebooks else ["there is no codebook"]
    faults += _several(codebooks) or chain_faults(codebooks)
    for book in codebooks:
        _check_size(book)
        if book.encoder != encoder_sha256:
            faults.append(f"layer {book.layer} was fitted on encoder {book.encoder}, the features are {encoder_sha256}")
        if book.dim != dim:
            faults.append(f"layer {book.layer} has width {book.dim}, the features have {dim}")
        if layers is not None and book.layer not in layers:
            faults.append(f"layer {book.layer} is not among the features' layers {sorted(layers)}")
        if heard := book.heard_otherwise(normalize_waveform):
            faults.append(heard)
    if faults:
        raise CodebookMismatchError(
            f"codebooks do not belong to the features: {'; '.join(faults)}. "
            "Fit codebooks on features of this encoder, or use the encoder they were fitted on"
        )


def quantize(features: Mapping[int, np.ndarray], codebooks: Sequence[Codebook], *, engine: str = "auto") -> Quantized:
    """Turn the features of an utterance into tokens.

    Args:
        features: float16 (T, D) by layer; layers without a codebook are left out.
        codebooks: Of each layer one codebook, or the stages of one chain.
        engine: An engine of ``assignment.nearest``; it changes the speed, never a token.

    Returns:
        The tokens of every layer that has a codebook.

    Raises:
        CodebookMismatchError: A codebook's layer has no features, or features of another width, or its codebooks
            are no chain.
        FeatureError: What a stage leaves of a frame does not fit float16.
        SettingsError: A codebook has more clusters than a uint16 token can name.
        ValueError: Features are not float16 or not finite.
    """
    if faults := _several(codebooks):
        raise CodebookMismatchError("; ".join(faults))
    tokens, num_close = {}, 0
    for (layer, _), chain in chains(codebooks).items():
        left = _features(features, chain)
        found: list[np.ndarray] = []
        for book in chain:
            if found:
                left = left_by(chain[book.quantizer - 1], left, found[-1])
            near = book.table.nearest(left, engine=engine)
            found.append(near.tokens.astype(np.uint16))
            num_close += near.num_close
        tokens[layer] = found[0] if len(found) == 1 else np.stack(found, axis=1)
    return Quantized(tokens=tokens, num_close=num_close)


def _several(codebooks: Sequence[Codebook]) -> list[str]:
    """Name the layers and stages that have more than one codebook; those of different K are no chain together."""
    counts = Counter((book.layer, book.quantizer) for book in codebooks)
    return [
        f"layer {layer} has {count} codebooks of stage {quantizer}, there must be one"
        for (layer, quantizer), count in counts.items()
        if count > 1
    ]


def _features(features: Mapping[int, np.ndarray], chain: Sequence[Codebook]) -> np.ndarray:
    """Give the features that a chain quantises, float16 (T, D)."""
    layer, dim = chain[0].layer, chain[0].dim
    for book in chain:
        _check_size(book)
    if layer not in features:
        raise CodebookMismatchError(
            f"there are features of layers {sorted(features)}, none for the codebook of layer {layer}"
        )
    found = features[layer]
    if found.ndim != 2 or found.shape[1] != dim:
        raise CodebookMismatchError(f"layer {layer} has features {found.shape}, its codebook has width {dim}")
    return found


def _check_size(book: Codebook) -> None:
    if book.num_clusters > MAX_CLUSTERS:
        raise SettingsError(
            f"the codebook of layer {book.layer} has {book.num_clusters} clusters; a uint16 token names at most "
            f"{MAX_CLUSTERS}; fit it with fewer"
        )
