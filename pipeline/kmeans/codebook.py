"""A codebook: the centroids of one layer and residual stage with their origin, as one safetensors file.

The file holds ``centroids``, ``counts`` and ``inertia``, and the lineage in the one metadata key ``strata`` as sorted
JSON: several keys would come in another order in every process. Equal codebooks are equal bytes.
Shapes: K clusters, D width.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SchemaMismatchError
from pipeline.kmeans.search.assignment import CentroidTable
from pipeline.store.dataset import canonical, sha256

MAX_CLUSTERS = 65_536
"""Tokens are stored as uint16."""

_METADATA = schema.LINEAGE_KEY.decode()
_TENSORS = {"centroids": (np.float32, 2), "counts": (np.int64, 1), "inertia": (np.float64, 1)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """The centroids of one encoder layer, or of what the residual stages before leave of its features.

    Attributes:
        layer: Encoder layer.
        quantizer: Residual stage: 0 quantises features, q the residual that stages 0 to q - 1 leave.
        centroids: float32 (K, D), finite.
        counts: int64 (K,), rows of each cluster in the last iteration; zeros where an imported file does not say.
        inertia: float64, after each iteration; of an imported file the last one, or none.
        lineage: JSON values by name; ``encoder_sha256`` names the encoder whose features were clustered. A file read
            has ``layer`` and ``schema_version`` in it too, and that of a stage after 0 ``quantizer``. Such a stage
            names the stages before it, in order, as ``prior_sha256``. One that was fitted on several features datasets
            names them as ``inputs``.

    Raises:
        ValueError: Types or shapes do not fit together, a value is not finite, or the lineage names no encoder,
            another layer or stage, or not one codebook for each stage before.
    """

    layer: int
    centroids: np.ndarray
    counts: np.ndarray
    inertia: np.ndarray
    lineage: dict[str, Any]
    quantizer: int = 0

    def __post_init__(self) -> None:
        for name, (dtype, ndim) in _TENSORS.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != ndim:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype)} of {ndim} dimension(s), got {array.dtype} {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not finite")
        if 0 in self.centroids.shape or self.counts.shape != self.centroids.shape[:1]:
            raise ValueError(f"counts {self.counts.shape} do not belong to centroids {self.centroids.shape}")
        if self.lineage.get("layer", self.layer) != self.layer:
            raise ValueError(f"layer is {self.layer}, its lineage says {self.lineage['layer']}")
        if self.lineage.get("quantizer", self.quantizer) != self.quantizer:
            raise ValueError(f"quantizer is {self.quantizer}, its lineage says {self.lineage['quantizer']}")
        if len(self.prior_sha256) != self.quantizer:
            raise ValueError(
                f"stage {self.quantizer} follows {self.quantizer} codebook(s), prior_sha256 names {self.prior_sha256}"
            )
        if not isinstance(self.lineage.get("encoder_sha256"), str):
            raise ValueError("lineage names no encoder: encoder_sha256 is missing")

    @property
    def num_clusters(self) -> int:
        """Rows of the codebook (K)."""
        return len(self.centroids)

    @property
    def dim(self) -> int:
        """Feature width (D)."""
        return int(self.centroids.shape[1])

    @property
    def encoder(self) -> str:
        """SHA-256 of the weights of the encoder whose features were clustered."""
        return str(self.lineage["encoder_sha256"])

    @property
    def normalize_waveform(self) -> bool | None:
        """Whether the encoder heard waveforms of zero mean and unit variance; None where the file does not say."""
        return self.lineage.get("normalize_waveform")

    def heard_otherwise(self, normalize_waveform: bool | None) -> str | None:
        """Say that waveforms were normalised when it was fitted and are not now, or the reverse.

        Args:
            normalize_waveform: Whether they are now; None where it is not known.

        Returns:
            What is wrong, with the flag that would be right; None where nothing is, or one side does not say.
        """
        fitted = self.normalize_waveform
        if fitted is None or normalize_waveform is None or fitted == normalize_waveform:
            return None
        flag = "--normalize-waveform" if fitted else "--no-normalize-waveform"
        return f"{self.unit} was fitted with {flag}, which was not so here"

    @property
    def unit(self) -> str:
        """Name of its unit in a dataset, as ``layer_07_k1000``."""
        return schema.codebook_unit(self.layer, self.num_clusters, self.quantizer)

    @property
    def column(self) -> str:
        """Column of its tokens, as ``layer_07``."""
        return schema.token_column(self.layer, self.quantizer)

    @property
    def prior_sha256(self) -> list[str]:
        """SHA-256 of the codebooks of the stages before, in order; none for stage 0."""
        return list(self.lineage.get("prior_sha256", ()))

    @property
    def fitted_on(self) -> list[str]:
        """SHA-256 of the features datasets it was fitted on; none where the file does not say, as of imported ones."""
        one = self.lineage.get("input_sha256")
        return list(self.lineage.get("inputs", [one] if one else []))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.to_bytes())

    @cached_property
    def table(self) -> CentroidTable:
        """The centroids prepared for searches; made at the first one."""
        return CentroidTable(self.centroids)

    def to_bytes(self) -> bytes:
        """Serialise to safetensors; equal codebooks give equal bytes in every process."""
        header = {**self.lineage, "layer": self.layer, "schema_version": schema.SCHEMA_VERSION}
        if self.quantizer:
            header["quantizer"] = self.quantizer
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        return save(tensors, metadata={_METADATA: canonical(header)})

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> "Codebook":
        """Read what ``to_bytes`` wrote.

        Args:
            data: The file.
            source: Its path or URI, for messages.

        Raises:
            CorruptDatasetError: It is no whole safetensors file, or holds values that are not finite.
            SchemaMismatchError: It is no codebook, or one of another schema version.
        """
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        except (SafetensorError, ValueError) as error:
            raise CorruptDatasetError(
                f"{source} is no whole safetensors file ({error}); restore it or make it again"
            ) from error
        lineage = _read_lineage(header, source)
        for name, (dtype, _) in _TENSORS.items():
            if name not in tensors or tensors[name].dtype != dtype:
                raise SchemaMismatchError(f"{source} is no codebook: it has no tensor {name} of {np.dtype(dtype)}")
            if not np.isfinite(tensors[name]).all():
                raise CorruptDatasetError(
                    f"{source}: {name} holds values that are not finite; restore it or make it again"
                )
        try:
            return cls(
                layer=lineage["layer"],
                quantizer=lineage.get("quantizer", 0),
                lineage=lineage,
                **{name: tensors[name] for name in _TENSORS},
            )
        except ValueError as error:
            raise SchemaMismatchError(f"{source} is no codebook: {error}") from error


def _read_lineage(header: dict[str, Any], source: str) -> dict[str, Any]:
    try:
        lineage = json.loads(header["__metadata__"][_METADATA])
        version, layer = lineage["schema_version"], lineage["layer"]
    except (KeyError, TypeError, ValueError) as error:
        raise SchemaMismatchError(
            f"{source} is no codebook of Strata: its header has no {_METADATA!r} lineage with layer and schema_version"
        ) from error
    if version != schema.SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"{source} has schema version {version!r}, this Strata reads {schema.SCHEMA_VERSION}; fit it again"
        )
    if type(layer) is not int or layer < 0:
        raise SchemaMismatchError(f"{source} names layer {layer!r}; a layer is an integer from 0")
    if type(quantizer := lineage.get("quantizer", 0)) is not int or quantizer < 0:
        raise SchemaMismatchError(f"{source} names quantizer {quantizer!r}; a residual stage is an integer from 0")
    for name in ("prior_sha256", "inputs"):
        if not isinstance(lineage.get(name, []), list):
            raise SchemaMismatchError(f"{source} names its {name} not as a list")
    return dict(lineage)
