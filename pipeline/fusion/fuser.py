"""The fuser: tokens or features of several layers in, one vector per frame out, with the weight of each layer.

Letters: B batch, T frames, L layers, D feature width, H width of a fused frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.errors import CorruptDatasetError
from pipeline.fusion.inputs import LayerFeatures, TokenEmbedding, freeze
from pipeline.fusion.saved import read_fuser
from pipeline.fusion.spec import FuserSpec, read_centroids
from pipeline.fusion.weighing import Attention, Concatenation, LayerWeights, Mean, masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class Fused:
    """What a fuser gives.

    Attributes:
        values: (B, T, H); exactly 0 in padded frames.
        weights: float32 (B, T, L), those of a real frame add up to 1; exactly 0 for absent layers and padded frames.
            None for concatenation, which has none.
    """

    values: torch.Tensor
    weights: torch.Tensor | None


class Fuser(torch.nn.Module):
    """Fuses the layers of each frame.

    What is in padded frames and absent layers reaches no output and no gradient, and may be anything. A frame's output
    follows from its own tokens alone. The caller's tensors stay as they are.

    Args:
        spec: What it is made for.
        inputs: What turns values into vectors.
        fusion: What weighs the vectors, or puts them side by side.
    """

    def __init__(
        self,
        spec: FuserSpec,
        inputs: TokenEmbedding | LayerFeatures,
        fusion: Attention | LayerWeights | Mean | Concatenation,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.dim = spec.output_dim
        self.inputs = inputs
        self.fusion = fusion
        first = spec.columns.index(spec.used[0])
        self._used = slice(first, first + len(spec.used))

    def forward(self, values: torch.Tensor, mask: torch.Tensor, present: torch.Tensor | None = None) -> Fused:
        """Fuse a batch.

        Args:
            values: Tokens, integers (B, T, L), or features (B, T, L, D), the layers in the order of the spec.
            mask: bool (B, T), True in real frames.
            present: bool (L,), (B, L) or (B, T, L), the layers that are there; None: all.

        Raises:
            ValueError: Shapes do not fit, a token is none of its codebook's, or a row has no layer that could be fused.
        """
        usable = self.usable(values, mask, present)
        used = usable[..., self._used]
        vectors = self.inputs(values[:, :, self._used], used)
        if isinstance(self.fusion, Concatenation):
            fused = self.fusion(vectors.dense(), used)
            return Fused(values=fused.masked_fill(~mask.unsqueeze(-1), 0.0), weights=None)
        scores = vectors.score(self.fusion) if isinstance(self.fusion, Attention) else self.fusion(used)
        weights = masked_softmax(scores, used)
        fused = vectors.weighted_sum(weights)
        if used.shape != usable.shape:
            weights = torch.nn.functional.pad(
                weights, (self._used.start, len(self.spec.columns) - self._used.stop), value=0.0
            )
        return Fused(values=fused.masked_fill(~mask.unsqueeze(-1), 0.0), weights=weights)

    def usable(self, values: torch.Tensor, mask: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """Say which layers of which frames are real and there: bool (B, T, L).

        Raises:
            ValueError: Shapes do not fit, or a row has no layer that could be fused.
        """
        columns, ndim = self.spec.columns, 3 if self.spec.kind == "tokens" else 4
        if values.ndim != ndim or values.shape[2] != len(columns) or values.shape[:2] != mask.shape:
            raise ValueError(
                f"{self.spec.kind} of {len(columns)} layers have {ndim} axes, rows and frames as the mask "
                f"{tuple(mask.shape)}; got {tuple(values.shape)}"
            )
        if mask.dtype != torch.bool or (present is not None and present.dtype != torch.bool):
            raise ValueError("the masks of frames and of layers are bool")
        if present is None:
            return mask.unsqueeze(-1).expand(*mask.shape, len(columns))
        if present.shape not in ((len(columns),), (len(mask), len(columns)), (*mask.shape, len(columns))):
            raise ValueError(
                f"present says of {len(columns)} layers, or of each row, or of each frame, got {tuple(present.shape)}"
            )
        usable = mask.unsqueeze(-1) & (present if present.ndim == 3 else present.expand(len(mask), -1).unsqueeze(1))
        lacking = mask.any(dim=1) & ~usable[..., self._used].any(dim=2).any(dim=1)
        if bool(lacking.any()):
            rows = ", ".join(str(row) for row in lacking.nonzero().flatten().tolist())
            raise ValueError(
                f"row(s) {rows} of the batch have frames and no layer to fuse: of {', '.join(self.spec.used)} none is "
                "present"
            )
        return usable


def build_fuser(spec: FuserSpec) -> Fuser:
    """Make the fuser of a spec: new, with the centroids of its codebooks, or as it was saved.

    Random weights come from torch's generator, which the caller seeds.

    Raises:
        CodebookMismatchError: The codebooks are not those of the tokens.
        CorruptDatasetError: The saved fuser is damaged.
        SettingsError: The centroids have another width, or the saved fuser does not fit.
    """
    settings = spec.settings
    saved = None if settings.fuser is None else read_fuser(settings.fuser, spec)
    inputs: TokenEmbedding | LayerFeatures
    if spec.kind == "tokens":
        copied = settings.embedding_init == "centroids" and saved is None
        centroids = [torch.from_numpy(each) for each in read_centroids(spec)] if copied else None
        sizes = [spec.num_clusters[column] for column in spec.used]
        inputs = TokenEmbedding(sizes, spec.output_dim, centroids, frozen=settings.freeze_embedding)
    else:
        assert spec.dim is not None
        # Concatenation has a linear map of its own, and sees the features whole.
        inputs = LayerFeatures(spec.dim, None if settings.fusion == "concat" else spec.output_dim)
    fuser = Fuser(spec, inputs, _fusion(spec, inputs.dim))
    if saved is not None:
        _load(fuser, saved)
    if settings.freeze_fuser:
        freeze(fuser)
    return fuser


def _load(fuser: Fuser, saved: Mapping[str, torch.Tensor]) -> None:
    try:
        fuser.load_state_dict(dict(saved))
    except RuntimeError as error:
        raise CorruptDatasetError(
            f"the fuser {fuser.spec.settings.fuser} does not hold what its lineage says ({error}); train it again"
        ) from error


def _fusion(spec: FuserSpec, dim: int) -> Attention | LayerWeights | Mean | Concatenation:
    if spec.settings.fusion == "attention":
        return Attention(dim, spec.scorer_dim)
    if spec.settings.fusion == "weighted":
        return LayerWeights(len(spec.columns))
    if spec.settings.fusion == "concat":
        return Concatenation(dim, len(spec.columns), spec.output_dim)
    return Mean()
