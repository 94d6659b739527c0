"""What a fuser fuses: an embedding for each token of each layer, or continuous features, each layer normalised.

Letters: B batch, T frames, L layers, K clusters, D feature width, H width of a fused frame.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

Scorer = Callable[[torch.Tensor], torch.Tensor]
"""Gives vectors (..., H) their scores (...)."""


def freeze(module: torch.nn.Module) -> None:
    """Make every parameter of a module a buffer of the same name: no optimizer finds it, and it is saved as before.

    A parameter without a gradient would stay in ``parameters()``, where an average of the weights or a phase that
    lets weights learn again could reach it.
    """
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, weight.detach())


class Embedded:
    """The vectors of tokens, as rows of a table: what is asked of each is asked once per row, not once per frame.

    A table of 6 layers of K = 200 has 1,200 rows, a micro-batch of 80 s of audio 24,000 tokens.

    Args:
        index: Rows (B, T, L).
        table: (R, H).
    """

    def __init__(self, index: torch.Tensor, table: torch.Tensor) -> None:
        self._index, self._table = index, table

    def dense(self) -> torch.Tensor:
        """Give the vectors, (B, T, L, H)."""
        return F.embedding(self._index, self._table)

    def score(self, scorer: Scorer) -> torch.Tensor:
        """Score each vector: (B, T, L)."""
        if len(self._table) > self._index.numel():
            return scorer(self.dense())
        return F.embedding(self._index, scorer(self._table).unsqueeze(-1)).squeeze(-1)

    def weighted_sum(self, weights: torch.Tensor) -> torch.Tensor:
        """Sum the vectors of each frame by weights (B, T, L): (B, T, H), without one of (B, T, L, H)."""
        rows = self._index.flatten(0, 1)
        summed = F.embedding_bag(rows, self._table, mode="sum", per_sample_weights=weights.flatten(0, 1))
        return summed.reshape(*weights.shape[:2], -1)


class Continuous:
    """The vectors of features.

    Args:
        vectors: (B, T, L, H).
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        self._vectors = vectors

    def dense(self) -> torch.Tensor:
        """Give the vectors, (B, T, L, H)."""
        return self._vectors

    def score(self, scorer: Scorer) -> torch.Tensor:
        """Score each vector: (B, T, L)."""
        return scorer(self._vectors)

    def weighted_sum(self, weights: torch.Tensor) -> torch.Tensor:
        """Sum the vectors of each frame by weights (B, T, L): (B, T, H)."""
        return (weights.unsqueeze(-1) * self._vectors).sum(dim=2)


class TokenEmbedding(torch.nn.Module):
    """One vector per layer and token: one table of sum(K) rows, where layer l begins after those before it.

    Args:
        num_clusters: K of each layer; it may differ between layers.
        dim: Width of an embedding (H).
        centroids: float32 (K, H) of each layer, which are copied; None begins with values of a standard normal
            distribution from torch's generator, as ``torch.nn.Embedding``.
        frozen: Whether the table stays as it begins.

    Source: the offset of each layer into one table is that of the informed layer selector in DASB (Mousavi et al.,
    2024), which adds it to the caller's tokens in place. Here the caller's tokens stay as they are.
    """

    offsets: torch.Tensor
    clusters: torch.Tensor

    def __init__(
        self, num_clusters: Sequence[int], dim: int, centroids: Sequence[torch.Tensor] | None = None, *, frozen: bool
    ) -> None:
        super().__init__()
        self.dim = dim
        total = sum(num_clusters)
        starts = [0, *itertools.accumulate(num_clusters)][:-1]
        self.register_buffer("offsets", torch.tensor(starts), persistent=False)
        self.register_buffer("clusters", torch.tensor(list(num_clusters)), persistent=False)
        table = torch.randn(total, dim) if centroids is None else torch.cat(list(centroids)).float()
        if table.shape != (total, dim):
            raise ValueError(f"centroids {tuple(table.shape)} do not fit {total} tokens of width {dim}")
        self.table = torch.nn.Parameter(table)
        if frozen:
            freeze(self)

    def forward(self, tokens: torch.Tensor, usable: torch.Tensor) -> Embedded:
        """Find the embeddings.

        Args:
            tokens: Integers (B, T, L); where they are not usable, any.
            usable: bool (B, T, L).

        Returns:
            The embeddings (B, T, L, H); where tokens are not usable, that of token 0.

        Raises:
            ValueError: A usable token is below 0, or K or more; on a CPU. On a GPU its own check of indices ends the
                run: to ask it at each step would let it wait.
        """
        if tokens.is_floating_point():
            raise ValueError(f"this fuser embeds tokens, which are integers; it was given {tokens.dtype}")
        tokens = torch.where(usable, tokens.long(), 0)
        fits = (tokens >= 0) & (tokens < self.clusters)
        if tokens.device.type == "cpu" and not bool(fits.all()):
            place = (~fits).nonzero()[0].tolist()
            raise ValueError(
                f"token {int(tokens[tuple(place)])} at row {place[0]}, frame {place[1]}, layer {place[2]} of the input "
                f"is not in 0 to {int(self.clusters[place[2]]) - 1}: are these tokens of another codebook?"
            )
        # Past the table, not in the rows of another layer.
        index = torch.where(fits, tokens + self.offsets, len(self.table))
        return Embedded(index, self.table)


class LayerFeatures(torch.nn.Module):
    """Continuous features of several layers, each frame of each layer normalised, and mapped where widths differ.

    A layer norm without weights gives every layer the same scale. The layers of an SSL encoder differ in theirs, and
    without it a uniform mean is mostly the layer of the largest values, and learned weights say as much of scale as of
    use. Token embeddings begin with one scale in all layers, so this also makes the two comparable.

    Args:
        dim: Width of the features (D).
        output_dim: Width to map to (H); None leaves them as wide as they are.

    Source: SUPERB (Yang et al., 2021) sums layers with softmax weights that begin equal; its toolkit s3prl normalises
    each frame of each layer in this way where asked to (``Featurizer(normalize=True)``; its default does not).
    """

    def __init__(self, dim: int, output_dim: int | None = None) -> None:
        super().__init__()
        self.input_dim = dim
        self.dim = dim if output_dim is None else output_dim
        self.projection = torch.nn.Linear(dim, self.dim) if self.dim != dim else None

    def forward(self, features: torch.Tensor, usable: torch.Tensor) -> Continuous:
        """Normalise and map.

        Args:
            features: Floats (B, T, L, D); where they are not usable, any, even such that are not finite.
            usable: bool (B, T, L).

        Returns:
            The vectors (B, T, L, H).

        Raises:
            ValueError: They are tokens, or of another width.
        """
        if not features.is_floating_point() or features.shape[-1] != self.input_dim:
            raise ValueError(
                f"this fuser takes features of width {self.input_dim}; it was given {features.dtype} "
                f"{tuple(features.shape)}"
            )
        features = torch.where(usable.unsqueeze(-1), features.float(), 0.0)
        normalised = F.layer_norm(features, (self.input_dim,))
        return Continuous(normalised if self.projection is None else self.projection(normalised))
