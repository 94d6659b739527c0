"""A Conformer that says, in each frame, which token each layer of the clean recording has.

Source: Mousavi et al. 2024, arXiv 2406.14294 (DASB), the Conformer for VoiceBank-DEMAND: it predicts all frames and
layers at once, each layer by a softmax of its own.

Letters: B batch, T frames, H width, L target layers, K clusters of a layer.
"""

from collections.abc import Sequence

import torch

from pipeline.tasks.blocks.conformer import Conformer
from pipeline.tasks.blocks.settings import ConformerSettings


class SeModel(torch.nn.Module):
    """Logits of the tokens of each target layer.

    Attributes:
        context_frames: Frames to each side that a frame's logits depend on, and no more.
    """

    def __init__(self, dim: int, num_clusters: Sequence[int], settings: ConformerSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a fused frame (H).
            num_clusters: K of each target layer (L); they may differ.
            settings: Sizes.
        """
        super().__init__()
        self.conformer = Conformer(dim, settings)
        self.context_frames = self.conformer.context_frames
        self.outputs = torch.nn.ModuleList(torch.nn.Linear(self.conformer.dim, size) for size in num_clusters)

    def forward(self, fused: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """Give logits, float32 (B, T, K) of each target layer, of frames (B, T, H); mask is bool (B, T).

        Padded frames hold what the bias alone says; loss and figures look at the mask.
        """
        found = self.conformer(fused, mask)
        return [output(found).float() for output in self.outputs]
