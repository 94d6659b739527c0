"""ECAPA-TDNN: an utterance's embedding from its frames, with a mask wherever frames meet.

Source: Desplanques et al. 2020, ECAPA-TDNN, arXiv 2005.07143, sections 3.1 to 3.3: Res2 blocks of scale 8 with
squeeze-excitation, kernels 5, 3, 3, 3, 1 and dilations 1, 2, 3, 4, 1, aggregation of all blocks, attentive statistics
pooling with global context. Convolutions see zeros past both ends of an utterance.

Letters: B batch, C channels, T frames, H width, E embedding.
"""

import torch

from pipeline.tasks.blocks.normalization import MaskedBatchNorm
from pipeline.tasks.blocks.settings import EcapaSettings

_SCALE = 8
_DILATIONS = (2, 3, 4)
_LEAST_VARIANCE = 1e-5


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give the mean over real frames, (B, C), of values (B, C, T) that are 0 in padded ones; mask is bool (B, T)."""
    return values.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class ConvBlock(torch.nn.Module):
    """A convolution over time, ReLU and batch normalisation; frames in, as many frames out, 0 in padding."""

    def __init__(self, dim: int, channels: int, *, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(dim, channels, kernel, dilation=dilation, padding="same")
        self.norm = MaskedBatchNorm(channels)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, C, T) of values (B, H, T) that are 0 in padding; mask is bool (B, T)."""
        normalized: torch.Tensor = self.norm(torch.relu(self.conv(values)), mask)
        return normalized


class Res2(torch.nn.Module):
    """Convolutions of an eighth of the channels each, every one hearing the one before."""

    def __init__(self, channels: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        part = channels // _SCALE
        blocks = [ConvBlock(part, part, kernel=kernel, dilation=dilation) for _ in range(_SCALE - 1)]
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, C, T) of (B, C, T)."""
        first, *parts = values.chunk(_SCALE, dim=1)
        found = [first]
        for block, part in zip(self.blocks, parts, strict=True):
            found.append(block(part if len(found) == 1 else part + found[-1], mask))
        return torch.cat(found, dim=1)


class SqueezeExcitation(torch.nn.Module):
    """A gate per channel from the mean over an utterance's real frames."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.gate = torch.nn.Sequential(
            torch.nn.Linear(channels, width), torch.nn.ReLU(), torch.nn.Linear(width, channels), torch.nn.Sigmoid()
        )

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, C, T) of (B, C, T)."""
        gated: torch.Tensor = values * self.gate(masked_mean(values, mask)).unsqueeze(2)
        return gated


class EcapaBlock(torch.nn.Module):
    """A residual block: a dense layer per frame, Res2, a dense layer per frame, squeeze-excitation."""

    def __init__(self, channels: int, width: int, *, dilation: int) -> None:
        super().__init__()
        self.before = ConvBlock(channels, channels, kernel=1)
        self.res2 = Res2(channels, kernel=3, dilation=dilation)
        self.after = ConvBlock(channels, channels, kernel=1)
        self.excitation = SqueezeExcitation(channels, width)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, C, T) of (B, C, T)."""
        found = self.after(self.res2(self.before(values, mask), mask), mask)
        excited: torch.Tensor = values + self.excitation(found, mask)
        return excited


class StatisticsPooling(torch.nn.Module):
    """Mean and standard deviation over time, each frame and channel weighed by attention.

    Source: Okabe et al. 2018, arXiv 1803.10963, with the global context of Desplanques et al., section 3.1.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = ConvBlock(3 * channels, width, kernel=1)
        self.score = torch.nn.Conv1d(width, channels, 1)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, 2 C) of (B, C, T)."""
        real = mask.unsqueeze(1)
        even = (real / real.sum(dim=2, keepdim=True).clamp(min=1)).to(values.dtype)
        context = [found.unsqueeze(2).expand_as(values) for found in _moments(values, even)]
        scores = self.score(torch.tanh(self.hidden(torch.cat([values, *context], dim=1), mask)))
        # The least finite number, not -inf: an utterance without a frame would give nan.
        weights = scores.float().masked_fill(~real, torch.finfo(torch.float32).min).softmax(dim=2) * real
        return torch.cat(_moments(values.float(), weights), dim=1)


def _moments(values: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = (weights * values).sum(dim=2)
    variance = (weights * (values - mean.unsqueeze(2)) ** 2).sum(dim=2)
    return mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()


class Ecapa(torch.nn.Module):
    """From fused frames to one embedding per utterance."""

    def __init__(self, dim: int, settings: EcapaSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a frame (H).
            settings: Sizes.
        """
        super().__init__()
        channels, width = settings.ecapa_channels, settings.ecapa_attention
        self.dim = settings.embedding_width
        self.first = ConvBlock(dim, channels, kernel=5)
        self.blocks = torch.nn.ModuleList(EcapaBlock(channels, width, dilation=dilation) for dilation in _DILATIONS)
        self.aggregation = torch.nn.Conv1d(len(_DILATIONS) * channels, settings.ecapa_pooled, 1)
        self.pooling = StatisticsPooling(settings.ecapa_pooled, width)
        self.norm = MaskedBatchNorm(2 * settings.ecapa_pooled)
        self.embedding = torch.nn.Linear(2 * settings.ecapa_pooled, self.dim)

    def forward(self, fused: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give embeddings (B, E) of frames (B, T, H); mask is bool (B, T)."""
        real = mask.unsqueeze(1)
        values = self.first(fused.transpose(1, 2).masked_fill(~real, 0.0), mask)
        found = []
        for block in self.blocks:
            values = block(values, mask)
            found.append(values)
        together = torch.relu(self.aggregation(torch.cat(found, dim=1))).masked_fill(~real, 0.0)
        embeddings: torch.Tensor = self.embedding(self.norm(self.pooling(together, mask)))
        return embeddings
