"""ECAPA-TDNN and a direction per speaker, compared by cosine.

Letters: B batch, T frames, H width, E embedding, C speakers.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from pipeline.tasks.blocks.ecapa import Ecapa
from pipeline.tasks.blocks.settings import EcapaSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Speakers:
    """What is said of utterances.

    Attributes:
        embeddings: (B, E), of any length.
        cosines: float32 (B, C), with each speaker's direction; the largest is the speaker. No margin is in them.
    """

    embeddings: torch.Tensor
    cosines: torch.Tensor


class SidModel(torch.nn.Module):
    """Embeddings of utterances, and their cosines with learned directions of speakers."""

    def __init__(self, dim: int, num_speakers: int, settings: EcapaSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a fused frame (H).
            num_speakers: C.
            settings: Sizes.
        """
        super().__init__()
        self.ecapa = Ecapa(dim, settings)
        self.directions = torch.nn.Parameter(torch.empty(num_speakers, self.ecapa.dim))
        torch.nn.init.xavier_uniform_(self.directions)

    def forward(self, fused: torch.Tensor, mask: torch.Tensor) -> Speakers:
        """Compare utterances (B, T, H) with speakers; mask is bool (B, T)."""
        embeddings = self.ecapa(fused, mask)
        # Autocast would round cosines near 1 to steps of 0.004.
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = normalize(embeddings.float(), dim=1) @ normalize(self.directions.float(), dim=1).T
        return Speakers(embeddings=embeddings, cosines=cosines)
