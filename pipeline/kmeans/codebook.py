"""A codebook: the centroids of one layer with their lineage, in safetensors.

Lineage lies in one metadata key of sorted JSON: safetensors writes several keys in random order, and equal
codebooks must be equal bytes.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SchemaMismatchError

_KEY = schema.LINEAGE_KEY.decode()
_TENSORS = {"centroids": (np.float32, 2), "counts": (np.int64, 1), "inertia": (np.float64, 1)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """The centroids of one layer.

    Attributes:
        layer: Encoder layer.
        centroids: float32 (K, D).
        counts: int64 (K,), rows of each cluster in the last iteration.
        inertia: float64, one value an iteration.
        lineage: What it was fitted on and how: encoder, its hash, layer, settings.
    """

    layer: int
    centroids: np.ndarray
    counts: np.ndarray
    inertia: np.ndarray
    lineage: Mapping[str, Any]

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.centroids)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.centroids.shape[1])

    @property
    def encoder(self) -> str:
        """Hash of the encoder whose features it was fitted on."""
        return str(self.lineage["encoder_sha256"])

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of its bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Write it as safetensors; equal codebooks give equal bytes."""
        tensors = {name: np.ascontiguousarray(getattr(self, name), dtype) for name, (dtype, _) in _TENSORS.items()}
        lineage = {**self.lineage, "layer": self.layer}
        return save(tensors, metadata={_KEY: json.dumps(lineage, sort_keys=True, separators=(",", ":"))})

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """Read safetensors.

        Args:
            data: What ``to_bytes`` gave.
            source: Its name, for messages.

        Raises:
            CorruptDatasetError: The bytes are no safetensors, or values are not finite.
            SchemaMismatchError: It is no codebook, or of another schema version.
        """
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        except (SafetensorError, ValueError) as error:
            raise CorruptDatasetError(f"{source} is damaged: {error}; restore it or fit it again") from error
        try:
            lineage = json.loads(header["__metadata__"][_KEY])
            layer = int(lineage["layer"])
        except (KeyError, TypeError, ValueError) as error:
            raise SchemaMismatchError(f"{source} is no codebook of ours: its header has no lineage") from error
        if lineage.get("schema_version", schema.SCHEMA_VERSION) != schema.SCHEMA_VERSION:
            raise SchemaMismatchError(
                f"{source} has schema version {lineage['schema_version']}, this is {schema.SCHEMA_VERSION}"
            )
        for name, (dtype, axes) in _TENSORS.items():
            if name not in tensors or tensors[name].dtype != dtype or tensors[name].ndim != axes:
                raise SchemaMismatchError(f"{source} is no codebook of ours: {name} is absent or of another type")
        if len(tensors["counts"]) != len(tensors["centroids"]) or not len(tensors["centroids"]):
            raise SchemaMismatchError(f"{source}: centroids and counts are not of one length K, at least 1")
        if not np.isfinite(tensors["centroids"]).all():
            raise CorruptDatasetError(f"{source} holds centroids that are not finite; fit it again")
        return cls(layer=layer, lineage=lineage, **tensors)
