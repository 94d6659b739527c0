"""HiFi-GAN: frames are upsampled step by step, and residual blocks of several kernels shape each step.

Source: Kong et al., "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
NeurIPS 2020, section 2.2 and appendix A.1 (generator V1 and its residual block 1). The factors 5, 4, 4, 2, 2 are those
of unit vocoders at a hop of 320 samples. Padding is zeros, and no convolution hears it.
Values are (B, C, 1, T), channels last: oneDNN then need not reorder them around each convolution. On one thread of a
CPU the generator of 3.7 M parameters speaks 6 to 9 % faster so than on (B, C, T), and a training step costs 11 % less.
Letters: B batch, C channels, T frames or samples, H width of a fused frame.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm

from pipeline.vocoder.generators.masking import silenced, stretched
from pipeline.vocoder.settings import VocoderSettings

SLOPE = 0.1
_KERNEL = 7
_INITIAL_DEVIATION = 0.01


def _normed(conv: torch.nn.Module) -> torch.nn.Module:
    normed: torch.nn.Module = weight_norm(conv)
    return normed


def _conv(dim: int, channels: int, kernel: int, dilation: int = 1) -> torch.nn.Module:
    padding = (0, dilation * (kernel - 1) // 2)
    conv = torch.nn.Conv2d(dim, channels, (1, kernel), dilation=(1, dilation), padding=padding)
    torch.nn.init.normal_(conv.weight, 0.0, _INITIAL_DEVIATION)
    return _normed(conv)


class ResidualBlock(torch.nn.Module):
    """Pairs of convolutions, the first of each pair dilated, each pair added to what it heard."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = torch.nn.ModuleList(_conv(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = torch.nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Give (B, C, 1, T) of (B, C, 1, T), both 0 in padding; mask is bool (B, T)."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            inner = silenced(dilated(F.leaky_relu(values, SLOPE)), mask)
            values = silenced(plain(F.leaky_relu(inner, SLOPE, inplace=True)), mask).add_(values)
        return values


class ReceptiveFields(torch.nn.Module):
    """Residual blocks of several kernels, whose outputs are averaged."""

    def __init__(self, channels: int, kernels: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(ResidualBlock(channels, kernel, dilations) for kernel in kernels)

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Give (B, C, 1, T) of (B, C, 1, T), both 0 in padding; mask is bool (B, T)."""
        found: torch.Tensor = self.blocks[0](values, mask)
        for block in self.blocks[1:]:
            found = found.add_(block(values, mask))
        return found.div_(len(self.blocks))


class HifiganGenerator(torch.nn.Module):
    """Speaks fused frames.

    Args:
        dim: Width of a fused frame (H).
        settings: Sizes.

    Attributes:
        hop_length: Samples per frame, the product of the upsampling.
        context_frames: Frames to each side that a frame's samples may depend on.
    """

    def __init__(self, dim: int, settings: VocoderSettings) -> None:
        super().__init__()
        self.rates = settings.upsample_rates
        self.hop_length = math.prod(self.rates)
        self.context_frames = _context(settings)
        channels = settings.upsample_channels
        first = torch.nn.Conv2d(dim, channels, (1, _KERNEL), padding=(0, _KERNEL // 2))
        self.first = _normed(first)
        self.upsampling = torch.nn.ModuleList()
        self.fields = torch.nn.ModuleList()
        for rate, kernel in zip(self.rates, settings.upsample_kernels, strict=True):
            self.upsampling.append(_normed(Upsampling(channels, rate, kernel)))
            channels //= 2
            self.fields.append(ReceptiveFields(channels, settings.residual_kernels, settings.residual_dilations))
        self.last = _conv(channels, 1, _KERNEL)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Speak.

        Args:
            frames: (B, T, H), 0 in padding.
            mask: bool (B, T), True in real frames; None where all are.

        Returns:
            float (B, hop * T) in [-1, 1], 0 in padding.
        """
        values = frames.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        values = silenced(self.first(values), mask)
        for rate, upsampling, fields in zip(self.rates, self.upsampling, self.fields, strict=True):
            mask = stretched(mask, rate)
            values = fields(silenced(upsampling(F.leaky_relu(values, SLOPE, inplace=True)), mask), mask)
        return silenced(torch.tanh(self.last(F.leaky_relu(values, inplace=True))), mask)[:, 0, 0]


class Upsampling(torch.nn.ConvTranspose2d):
    """A transposed convolution that gives exactly ``rate`` samples for each.

    It is computed as the equal convolution that gives ``rate`` times the channels: in channels last they lie in memory
    as the samples that follow each other. oneDNN's transposed form takes many times as long for few channels.

    Args:
        channels: Channels in; half of them come out.
        rate: Samples out for each.
        kernel: Width, at least ``rate``.
    """

    def __init__(self, channels: int, rate: int, kernel: int) -> None:
        odd = (kernel - rate) % 2
        self.rate, self.cut = rate, (kernel - rate + odd) // 2
        super().__init__(
            channels, channels // 2, (1, kernel), (1, rate), padding=(0, self.cut), output_padding=(0, odd)
        )
        torch.nn.init.normal_(self.weight, 0.0, _INITIAL_DEVIATION)

    def forward(self, values: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """Give (B, C / 2, 1, rate * T) of (B, C, 1, T), as ``torch.nn.ConvTranspose2d`` does within rounding."""
        assert output_size is None
        assert self.bias is not None
        channels, halved, _, width = self.weight.shape
        reach = -(-max(self.cut, width - self.rate - self.cut) // self.rate)
        steps = 2 * reach + 1
        before = self.rate * reach - self.cut
        # Sample a of step t hears step t + j through tap a + cut - rate * j.
        taps = F.pad(self.weight[:, :, 0], (before, self.rate * steps - before - width))
        taps = taps.reshape(channels, halved, steps, self.rate).flip(2).permute(3, 1, 0, 2)
        kernel = taps.reshape(self.rate * halved, channels, 1, steps)
        found = F.conv2d(values, kernel, self.bias.repeat(self.rate), padding=(0, reach))
        return found.permute(0, 2, 3, 1).reshape(len(found), 1, -1, halved).permute(0, 3, 1, 2)


def _context(settings: VocoderSettings) -> int:
    """Bound how many frames to each side a frame's samples depend on."""
    frames, rate = float(_KERNEL // 2), 1
    largest = max(settings.residual_kernels) // 2
    for factor, kernel in zip(settings.upsample_rates, settings.upsample_kernels, strict=True):
        frames += math.ceil(kernel / factor) / rate
        rate *= factor
        frames += largest * sum(dilation + 1 for dilation in settings.residual_dilations) / rate
    return math.ceil(frames + _KERNEL // 2 / rate)
