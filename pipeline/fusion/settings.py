"""Settings of a fuser, checked before anything starts. They know no torch."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings

Fusion = Literal["attention", "single", "mean", "weighted", "concat"]
EmbeddingInit = Literal["random", "centroids"]
FUSIONS = ("attention", "single", "mean", "weighted", "concat")
EMBEDDING_INITS = ("random", "centroids")


@dataclass(frozen=True, kw_only=True)
class FusionSettings(Settings):
    """How the layers of a frame become one vector."""

    fusion: Fusion = "attention"
    """What fuses layers: attention per frame (the informed layer selector), a single layer, their mean, weights that
    are learned once per layer, or concatenation and a linear map."""
    fusion_layer: str | None = None
    """The layer of fusion single, as layer_07."""
    embedding_dim: int | None = None
    """Width of a fused frame, and of token embeddings; default: that of the centroids or features."""
    embedding_init: EmbeddingInit = "random"
    """What token embeddings begin as: random values, or the centroids of the codebooks."""
    freeze_embedding: bool = False
    """Leave token embeddings as they begin."""
    scorer_dim: int | None = None
    """Hidden width of the scorer of fusion attention; default: that of a fused frame."""
    fuser: str | None = None
    """Saved fuser to begin with: fuser.safetensors or its folder, local or s3://."""
    freeze_fuser: bool = False
    """Leave the fuser as it was saved; only the task's own weights are trained."""

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise SettingsError(f"fusion must be one of {', '.join(FUSIONS)}, got {self.fusion!r}")
        if self.embedding_init not in EMBEDDING_INITS:
            raise SettingsError(f"embedding_init must be random or centroids, got {self.embedding_init!r}")
        if (self.fusion == "single") != (self.fusion_layer is not None):
            raise SettingsError(
                f"fusion_layer names the layer of fusion single and of no other; got fusion {self.fusion} and "
                f"fusion_layer {self.fusion_layer}"
            )
        for name in ("embedding_dim", "scorer_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        if self.scorer_dim is not None and self.fusion != "attention":
            raise SettingsError(f"scorer_dim is a setting of fusion attention; fusion {self.fusion} has no scorer")
        if self.freeze_fuser and self.fuser is None:
            raise SettingsError("freeze_fuser leaves a saved fuser as it is; name it with fuser")
