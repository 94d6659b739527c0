"""What a fuser is made for: layers, clusters and codebooks of a tokens dataset, or layers and width of features.

A spec holds no tensors and travels to workers. It knows no torch.
Letters: L layers, K clusters, D width of centroids or features, H width of a fused frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.features.encoders.shipped import codebooks_folder
from pipeline.fusion.settings import FusionSettings
from pipeline.kmeans.read_codebooks import read_units
from pipeline.store.dataset import Dataset

Kind = Literal["tokens", "features"]


@dataclass(frozen=True, kw_only=True)
class FuserSpec:
    """What a fuser is made for, and how it fuses.

    Attributes:
        settings: How.
        kind: ``tokens`` or ``features``: what it is given.
        columns: The layers (L) in the order of its input, as ``layer_03``; residual stages are layers of their own.
        dim: Width of centroids or features (D); None where the tokens do not say.
        num_clusters: K by column; empty for features.
        codebooks: Where the codebooks of the tokens are, for embeddings that begin as centroids.
        codebook_sha256: SHA-256 of each column's codebook; empty for features.
        encoder_sha256: SHA-256 of the encoder's weights.

    Raises:
        SettingsError: The settings do not fit the layers, or what is given.
    """

    settings: FusionSettings
    kind: Kind
    columns: tuple[str, ...]
    dim: int | None
    encoder_sha256: str
    num_clusters: Mapping[str, int] = field(default_factory=dict)
    codebooks: str | None = None
    codebook_sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise SettingsError(f"a fuser needs layers, each once; got {', '.join(self.columns) or 'none'}")
        layer = self.settings.fusion_layer
        if layer is not None and layer not in self.columns:
            raise SettingsError(f"fusion_layer {layer} is not among the layers {', '.join(self.columns)}")
        if self.settings.embedding_dim is None and self.dim is None:
            raise SettingsError("the tokens do not say how wide their centroids are; give embedding_dim")
        (self._check_tokens if self.kind == "tokens" else self._check_features)()

    def _check_tokens(self) -> None:
        for name, given in (("num_clusters", self.num_clusters), ("codebook_sha256", self.codebook_sha256)):
            if absent := [column for column in self.columns if column not in given]:
                raise SettingsError(f"{name} says nothing of {', '.join(absent)}")
        if not self._begins_as_centroids:
            return
        if self.codebooks is None:
            raise SettingsError("embedding_init centroids copies the codebooks of the tokens; give codebooks")
        if self.dim is not None and self.output_dim != self.dim:
            raise SettingsError(_width(self.output_dim, self.dim))

    def _check_features(self) -> None:
        if self.dim is None:
            raise SettingsError("features have a width (dim), which the spec does not say")
        if self.settings.embedding_init != "random" or self.settings.freeze_embedding:
            raise SettingsError(
                "features have no embeddings that could begin as centroids or stay as they are; leave embedding_init "
                "and freeze_embedding away"
            )

    @property
    def _begins_as_centroids(self) -> bool:
        return self.kind == "tokens" and self.settings.embedding_init == "centroids" and self.settings.fuser is None

    @property
    def output_dim(self) -> int:
        """Width of a fused frame (H)."""
        width = self.settings.embedding_dim if self.settings.embedding_dim is not None else self.dim
        assert width is not None
        return width

    @property
    def scorer_dim(self) -> int:
        """Hidden width of the scorer of fusion attention."""
        return self.settings.scorer_dim if self.settings.scorer_dim is not None else self.output_dim

    @property
    def used(self) -> tuple[str, ...]:
        """The layers that are read: one for fusion single, else all."""
        layer = self.settings.fusion_layer
        return self.columns if layer is None else (layer,)


def token_spec(
    settings: FusionSettings,
    lineage: Mapping[str, Any],
    *,
    columns: Sequence[str] = (),
    codebooks: str | None = None,
) -> FuserSpec:
    """Say what a fuser of a tokens dataset is made for.

    Args:
        settings: How it fuses.
        lineage: Of the tokens dataset.
        columns: The layers, in the order of the fuser's input; default: all of the dataset.
        codebooks: Where the codebooks are that the tokens were made with, or ``encoder-small`` for those that ship.

    Raises:
        SettingsError: A layer is not there, or the settings do not fit.
    """
    there = lineage["num_clusters"]
    if absent := [column for column in columns if column not in there]:
        raise SettingsError(f"the tokens have the layers {', '.join(there)}, not {', '.join(absent)}")
    chosen = tuple(columns) or tuple(there)
    return FuserSpec(
        settings=settings,
        kind="tokens",
        columns=chosen,
        dim=lineage.get("dim"),
        encoder_sha256=lineage["encoder_sha256"],
        num_clusters={column: int(there[column]) for column in chosen},
        codebooks=codebooks,
        codebook_sha256={column: lineage["codebooks"][column] for column in chosen},
    )


def feature_spec(settings: FusionSettings, lineage: Mapping[str, Any], *, layers: Sequence[int] = ()) -> FuserSpec:
    """Say what a fuser of a features dataset is made for.

    Args:
        settings: How it fuses.
        lineage: Of the features dataset.
        layers: The layers, in the order of the fuser's input; default: all of the dataset.

    Raises:
        SettingsError: A layer is not there, or the settings do not fit.
    """
    if absent := [layer for layer in layers if layer not in lineage["layers"]]:
        raise SettingsError(f"the features have the layers {lineage['layers']}, not {absent}")
    return FuserSpec(
        settings=settings,
        kind="features",
        columns=tuple(schema.layer_column(layer) for layer in layers or lineage["layers"]),
        dim=int(lineage["dim"]),
        encoder_sha256=lineage["encoder_sha256"],
    )


def read_centroids(spec: FuserSpec) -> list[np.ndarray]:
    """Read the centroids that the embeddings of a fuser begin as.

    Codebooks are found by their hashes, so a folder may hold several of one layer.

    Returns:
        float32 (K, H) of each layer that is read, in their order.

    Raises:
        CodebookMismatchError: The folder lacks a codebook that the tokens were made with.
        SettingsError: The centroids are not as wide as a fused frame.
    """
    assert spec.codebooks is not None
    books = {
        book.sha256: book
        for book in read_units(Dataset.open(codebooks_folder(spec.codebooks), kind="codebooks")).values()
    }
    wanted = {column: spec.codebook_sha256[column] for column in spec.used}
    if absent := [f"{column} ({digest[:12]})" for column, digest in wanted.items() if digest not in books]:
        raise CodebookMismatchError(
            f"{spec.codebooks} lacks the codebooks that the tokens were made with: {', '.join(absent)}; give those "
            "that tokenize_corpus read"
        )
    found = [books[digest].centroids for digest in wanted.values()]
    for centroids in found:
        if centroids.shape[1] != spec.output_dim:
            raise SettingsError(_width(spec.output_dim, centroids.shape[1]))
    return found


def _width(width: int, dim: int) -> str:
    return (
        f"embeddings that begin as centroids are as wide as those, {dim}; got embedding_dim {width}: give "
        f"--embedding-dim {dim}, or --embedding-init random"
    )
