"""The vocoder's front end: tokens of the layers that are there in, one vector per frame out, the speaker added.

Letters: B batch, T frames, L layers, H width of a fused frame, S width of a speaker vector.
"""

import torch

from pipeline.fusion.fuser import Fused, Fuser
from pipeline.fusion.inputs import Continuous, TokenEmbedding
from pipeline.fusion.weighing import Attention, masked_softmax


class LearnedAbsence(torch.nn.Module):
    """A fuser in whose attention absent layers take part, with one learned vector for all of them.

    Their ids still reach nothing. A weight says how much of a frame comes from that vector.

    Args:
        fuser: With fusion attention.

    Source: row 0 of the token table in the authors' vocoder, see Mousavi et al., Interspeech 2024, and SpeechBrain.
    """

    def __init__(self, fuser: Fuser) -> None:
        super().__init__()
        self.spec, self.dim = fuser.spec, fuser.dim
        self.fuser = fuser
        self.vector = torch.nn.Parameter(torch.randn(fuser.dim))

    def forward(self, values: torch.Tensor, mask: torch.Tensor, present: torch.Tensor | None = None) -> Fused:
        """Fuse a batch, as ``Fuser.forward``."""
        inputs, attention = self.fuser.inputs, self.fuser.fusion
        assert isinstance(inputs, TokenEmbedding)
        assert isinstance(attention, Attention)
        usable = self.fuser.usable(values, mask, present)
        vectors = Continuous(torch.where(usable.unsqueeze(-1), inputs(values, usable).dense(), self.vector))
        weights = masked_softmax(vectors.score(attention), mask.unsqueeze(-1).expand(usable.shape))
        fused = vectors.weighted_sum(weights)
        return Fused(values=fused.masked_fill(~mask.unsqueeze(-1), 0.0), weights=weights)


class SpeakerVector(torch.nn.Module):
    """Maps a given vector per utterance to the width of a frame; its length does not matter, only its direction."""

    def __init__(self, speaker_dim: int, dim: int) -> None:
        super().__init__()
        self.speaker_dim = speaker_dim
        self.projection = torch.nn.Linear(speaker_dim, dim)

    def forward(self, speaker: torch.Tensor) -> torch.Tensor:
        """Give (B, H) of float (B, S)."""
        if speaker.ndim != 2 or speaker.shape[1] != self.speaker_dim or not speaker.is_floating_point():
            raise ValueError(
                f"this vocoder takes speaker vectors of width {self.speaker_dim}, got {speaker.dtype} "
                f"{tuple(speaker.shape)}"
            )
        mapped: torch.Tensor = self.projection(torch.nn.functional.normalize(speaker, dim=1))
        return mapped


class SpeakerTable(torch.nn.Module):
    """One learned vector per training speaker."""

    def __init__(self, num_speakers: int, dim: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(num_speakers, dim)

    def forward(self, speaker: torch.Tensor) -> torch.Tensor:
        """Give (B, H) of ids (B,), int64."""
        if speaker.ndim != 1 or speaker.dtype != torch.int64:
            raise ValueError(f"this vocoder takes speaker ids, int64 (B,), got {speaker.dtype} {tuple(speaker.shape)}")
        found: torch.Tensor = self.table(speaker)
        return found
