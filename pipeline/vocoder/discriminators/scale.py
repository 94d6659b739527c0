"""The multi-scale discriminator: members hear the waveform at its rate, half of it, a quarter.

Source: Kumar et al., MelGAN, NeurIPS 2019, section 2.2.1, with the sizes of Kong et al., HiFi-GAN, NeurIPS 2020,
appendix A.2: spectral norm for the first scale, weight norm for the others.
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from pipeline.vocoder.discriminators.judging import Judgement, judged

_POOL, _POOL_STRIDE, _POOL_PADDING = 4, 2, 2


class ScaleDiscriminator(torch.nn.Module):
    """One scale.

    Args:
        halvings: How often the rate is halved before.
        channels: Of the widest layers.
    """

    def __init__(self, halvings: int, channels: int) -> None:
        super().__init__()
        self.halvings = halvings
        widths = [1, channels // 8, channels // 8, channels // 4, channels // 2, channels, channels, channels]
        kernels, groups, strides = (15, 41, 41, 41, 41, 41, 5), (1, 4, 16, 16, 16, 16, 1), (1, 2, 2, 4, 4, 1, 1)
        convs = [
            torch.nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=group)
            for before, after, kernel, group, stride in zip(
                widths[:-1], widths[1:], kernels, groups, strides, strict=True
            )
        ]
        convs.append(torch.nn.Conv1d(channels, 1, 3, padding=1))
        norm = weight_norm if halvings else spectral_norm
        self.convs = torch.nn.ModuleList(norm(conv) for conv in convs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None) -> Judgement:
        """Judge (B, S), 0 in padding; lengths are int64 (B,), samples, or None."""
        values = waveform.unsqueeze(1)
        for _ in range(self.halvings):
            values = F.avg_pool1d(values, _POOL, _POOL_STRIDE, _POOL_PADDING)
            lengths = None if lengths is None else (lengths + 2 * _POOL_PADDING - _POOL) // _POOL_STRIDE + 1
            if lengths is not None:
                steps = torch.arange(values.shape[2], device=values.device)
                values = values.masked_fill(steps >= lengths[:, None, None], 0.0)
        return judged(self.convs, values, lengths)
