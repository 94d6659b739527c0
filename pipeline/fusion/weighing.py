"""How layers become one vector: what gives each layer its weight in each frame, and concatenation, which has none.

Every way of weighing gives scores, and their softmax is over the layers that are usable: a frame's weights add up to 1
over these, and are exactly 0 elsewhere. Cost: O(B T L H), and for attention O(R H M) with M hidden units, where R is
B T L for features, and for tokens at most the rows of their table.
Letters: B batch, T frames, L layers, H width of a fused frame, M hidden width of the scorer.
"""

import torch


class Attention(torch.nn.Module):
    """Scores each layer of each frame from its own vector, by one scorer that all layers share.

    s_{l,t} = w2 . ReLU(W1 z_{l,t} + b1), without a bias after w2: it would add the same to all scores.

    Args:
        dim: Width of what is fused (H).
        hidden: Width of the scorer (M).

    Source: the informed layer selector of Mousavi et al., "How Should We Extract Discrete Audio Tokens from
    Self-Supervised Models?", Interspeech 2024, as in DASB. There padding and absent layers have weights too.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(dim, hidden)
        self.second = torch.nn.Linear(hidden, 1, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Score vectors (..., H) as (...)."""
        scores: torch.Tensor = self.second(torch.relu(self.first(vectors))).squeeze(-1)
        return scores


class LayerWeights(torch.nn.Module):
    """One learned score per layer, the same in all frames; at the beginning all are 0, so weights are equal.

    Args:
        num_layers: L.

    Source: the weighted sum of SUPERB (Yang et al., "SUPERB: Speech processing Universal PERformance Benchmark",
    Interspeech 2021).
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(num_layers))

    def forward(self, usable: torch.Tensor) -> torch.Tensor:
        """Give the scores of frames and layers (B, T, L)."""
        return self.scores.expand(usable.shape)


class Mean(torch.nn.Module):
    """Equal scores; of one layer alone, a weight of 1."""

    def forward(self, usable: torch.Tensor) -> torch.Tensor:
        """Give the scores of frames and layers (B, T, L)."""
        return torch.zeros(usable.shape, device=usable.device)


class Concatenation(torch.nn.Module):
    """The vectors of all layers side by side, then a linear map; those that are not usable are zeros.

    Args:
        dim: Width of each layer.
        num_layers: L.
        output_dim: Width of a fused frame (H).
    """

    def __init__(self, dim: int, num_layers: int, output_dim: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(num_layers * dim, output_dim)

    def forward(self, vectors: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
        """Fuse (B, T, L, D) to (B, T, H)."""
        fused: torch.Tensor = self.linear(vectors.masked_fill(~usable.unsqueeze(-1), 0.0).flatten(-2))
        return fused


def masked_softmax(scores: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
    """Give the softmax over the usable layers of each frame.

    Args:
        scores: (B, T, L).
        usable: bool (B, T, L); a frame may have none.

    Returns:
        float32 (B, T, L): exactly 0 where not usable, without a gradient there; all 0 in frames without any.
    """
    # A finite lowest score: with -inf a frame of padding is 0 / 0, and its gradient is no number.
    scores = scores.float().masked_fill(~usable, torch.finfo(torch.float32).min)
    return scores.softmax(dim=-1).masked_fill(~usable, 0.0)
