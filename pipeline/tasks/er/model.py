"""ECAPA-TDNN and a linear layer over emotions.

Letters: B batch, T frames, H width, C classes.
"""

import torch

from pipeline.tasks.blocks.ecapa import Ecapa
from pipeline.tasks.blocks.settings import EcapaSettings


class ErModel(torch.nn.Module):
    """Logits of emotions from frames."""

    def __init__(self, dim: int, num_classes: int, settings: EcapaSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a fused frame (H).
            num_classes: C.
            settings: Sizes.
        """
        super().__init__()
        self.ecapa = Ecapa(dim, settings)
        self.output = torch.nn.Linear(self.ecapa.dim, num_classes)

    def forward(self, fused: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give logits, float32 (B, C), of utterances (B, T, H); mask is bool (B, T)."""
        logits: torch.Tensor = self.output(self.ecapa(fused, mask))
        return logits.float()
