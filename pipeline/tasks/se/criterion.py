"""Cross-entropy of clean tokens, over the real frames of every target layer.

Letters: B batch, T frames, L target layers, K clusters of a layer.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy


def token_losses(logits: Sequence[torch.Tensor], clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give the loss of each real frame and layer in nats, float32 (real frames, L).

    Args:
        logits: float32 (B, T, K) of each layer (L).
        clean: Right tokens, int64 (B, T, L); those of padded frames are never looked at.
        mask: bool (B, T), True in real frames.
    """
    losses = [cross_entropy(each[mask], clean[..., place][mask], reduction="none") for place, each in enumerate(logits)]
    return torch.stack(losses, dim=1)


def wrong_tokens(said: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Count the real frames whose token is not the clean one, int64 (B, L).

    Args:
        said: Tokens, int64 (B, T, L).
        clean: Right tokens, int64 (B, T, L).
        mask: bool (B, T), True in real frames.
    """
    return ((said != clean) & mask.unsqueeze(-1)).sum(dim=1)
