"""The multi-period discriminator: each member hears every p-th sample, side by side.

Source: Kong et al., HiFi-GAN, NeurIPS 2020, section 2.3. The end is filled up with zeros, where theirs is reflected: a
reflection would hear padding.
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm

from pipeline.vocoder.discriminators.judging import Judgement, judged

_KERNEL, _STRIDE = 5, 3


class PeriodDiscriminator(torch.nn.Module):
    """One period.

    Args:
        period: Samples.
        channels: Of the widest layers; the first ones have a 32nd, an eighth and a half of them.
    """

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, channels // 32, channels // 8, channels // 2, channels, channels]
        strides = [_STRIDE] * 4 + [1]
        convs = [
            torch.nn.Conv2d(before, after, (_KERNEL, 1), (stride, 1), padding=(_KERNEL // 2, 0))
            for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        ]
        convs.append(torch.nn.Conv2d(channels, 1, (3, 1), padding=(1, 0)))
        self.convs = torch.nn.ModuleList(weight_norm(conv) for conv in convs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None) -> Judgement:
        """Judge (B, S), 0 in padding; lengths are int64 (B,), samples, or None."""
        rest = -waveform.shape[1] % self.period
        folded = F.pad(waveform, (0, rest)).reshape(len(waveform), 1, -1, self.period)
        rows = None if lengths is None else (lengths + self.period - 1) // self.period
        return judged(self.convs, folded, rows)
