"""Vocos: ConvNeXt blocks at the rate of frames, then one inverse STFT.

Source: Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders for high-quality audio
synthesis", ICLR 2024, section 3: magnitude as a clipped exponential, phase as an angle through cosine and sine, a hann
window. The overlap is divided by the window's of an utterance's own frames, so its end does not depend on padding.
Letters: B batch, C channels, T frames, H width of a fused frame, N samples in one spectrum.
"""

import math

import torch
import torch.nn.functional as F

from pipeline.vocoder.generators.masking import silenced
from pipeline.vocoder.settings import VocoderSettings

MOST_MAGNITUDE = 100.0
_INITIAL_DEVIATION = 0.02
_LEAST_OVERLAP = 1e-8


class ConvNextBlock(torch.nn.Module):
    """A depthwise convolution over time, then two linear maps per frame, scaled per channel and added."""

    def __init__(self, dim: int, hidden: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.depthwise = torch.nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = torch.nn.LayerNorm(dim, eps=1e-6)
        self.widen = torch.nn.Linear(dim, hidden)
        self.narrow = torch.nn.Linear(hidden, dim)
        self.scale = torch.nn.Parameter(torch.full((dim,), scale))

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Give (B, T, C) of (B, T, C), both 0 in padding; mask is bool (B, T)."""
        inner = self.norm(convolved(self.depthwise, values))
        inner = self.scale * self.narrow(F.gelu(self.widen(inner)))
        return values + _silenced(inner, mask)


def convolved(conv: torch.nn.Conv1d, values: torch.Tensor) -> torch.Tensor:
    """Convolve (B, T, C) over time to (B, T, C'), as it lies in memory: oneDNN knows channels last of images alone."""
    image = values.transpose(1, 2).unsqueeze(2)
    found = F.conv2d(
        image, conv.weight.unsqueeze(2), conv.bias, padding=(0, conv.kernel_size[0] // 2), groups=conv.groups
    )
    return found.squeeze(2).transpose(1, 2)


def _silenced(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set the padding of values (B, T, C) to 0."""
    return silenced(values.transpose(1, 2), mask).transpose(1, 2)


class InverseStft(torch.nn.Module):
    """Adds up windowed spectra to exactly ``hop * T`` samples.

    The N - hop samples that stand out are cut, half at each end.

    Args:
        n_fft: Samples in one spectrum (N).
        hop_length: Samples from one spectrum to the next.
    """

    window: torch.Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.trim = (n_fft - hop_length) // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, spectra: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Give float32 (B, hop * T).

        Args:
            spectra: complex64 (B, T, N // 2 + 1), 0 in padding.
            mask: bool (B, T), True in real frames; None where all are.
        """
        waves = torch.fft.irfft(spectra, n=self.n_fft, dim=2) * self.window
        real = torch.ones_like(waves[:1, :, :1]) if mask is None else mask.unsqueeze(2).to(waves.dtype)
        overlap = self._added(self.window.square() * real)
        return self._added(waves) / torch.where(overlap > _LEAST_OVERLAP, overlap, 1.0)

    def _added(self, waves: torch.Tensor) -> torch.Tensor:
        """Add windows (B, T, N) where they overlap: (B, hop * T)."""
        frames, hops = waves.shape[1], -(-self.n_fft // self.hop_length)
        parts = F.pad(waves, (0, hops * self.hop_length - self.n_fft))
        parts = parts.reshape(len(waves), frames, hops, self.hop_length)
        added = waves.new_zeros(len(waves), frames + hops - 1, self.hop_length)
        for hop in range(hops):
            added[:, hop : hop + frames] += parts[:, :, hop]
        return added.reshape(len(waves), -1)[:, self.trim : self.trim + self.hop_length * frames]


class IstftGenerator(torch.nn.Module):
    """Speaks fused frames.

    Args:
        dim: Width of a fused frame (H).
        settings: Sizes.
        hop_length: Samples per frame.

    Attributes:
        hop_length: Samples per frame.
        context_frames: Frames to each side that a frame's samples may depend on.
    """

    def __init__(self, dim: int, settings: VocoderSettings, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        width, kernel, blocks = settings.convnext_dim, settings.convnext_kernel, settings.convnext_blocks
        self.first = torch.nn.Conv1d(dim, width, kernel, padding=kernel // 2)
        self.norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.blocks = torch.nn.ModuleList(
            ConvNextBlock(width, settings.convnext_hidden, kernel, 1 / blocks) for _ in range(blocks)
        )
        self.last_norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.head = torch.nn.Linear(width, 2 * (settings.n_fft // 2 + 1))
        self.inverse = InverseStft(settings.n_fft, hop_length)
        self.context_frames = (blocks + 1) * (kernel // 2) + math.ceil(self.inverse.trim / hop_length)
        for part in self.modules():
            if isinstance(part, torch.nn.Conv1d | torch.nn.Linear):
                torch.nn.init.trunc_normal_(part.weight, std=_INITIAL_DEVIATION)
                assert part.bias is not None
                torch.nn.init.zeros_(part.bias)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Speak.

        Args:
            frames: (B, T, H), 0 in padding.
            mask: bool (B, T), True in real frames; None where all are.

        Returns:
            float32 (B, hop * T), 0 in padding.
        """
        values = _silenced(self.norm(convolved(self.first, frames)), mask)
        for block in self.blocks:
            values = block(values, mask)
        # The spectrum is float32 under autocast too. Clipped before the exponential: after it, a gradient is no number.
        log_magnitude, phase = self.head(self.last_norm(values)).float().chunk(2, dim=2)
        magnitude = _silenced(log_magnitude.clamp(max=math.log(MOST_MAGNITUDE)).exp(), mask)
        waveform: torch.Tensor = self.inverse(torch.polar(magnitude, phase), mask)
        if mask is not None:
            waveform = waveform.masked_fill(~mask.repeat_interleave(self.hop_length, dim=1), 0.0)
        return waveform
