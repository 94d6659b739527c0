"""All discriminators of a training together."""

import torch

from pipeline.vocoder.discriminators.judging import Judgement
from pipeline.vocoder.discriminators.period import PeriodDiscriminator
from pipeline.vocoder.discriminators.resolution import ResolutionDiscriminator
from pipeline.vocoder.discriminators.scale import ScaleDiscriminator
from pipeline.vocoder.settings import VocoderLossSettings


class Discriminators(torch.nn.Module):
    """Judges waveforms; an utterance with padding and alone gets the same scores within rounding.

    Args:
        settings: Which there are, and their sizes.
    """

    def __init__(self, settings: VocoderLossSettings) -> None:
        super().__init__()
        channels = settings.discriminator_channels
        self.members = torch.nn.ModuleList()
        for name in settings.discriminators:
            if name == "period":
                self.members.extend(PeriodDiscriminator(period, channels) for period in settings.periods)
            elif name == "scale":
                self.members.extend(ScaleDiscriminator(halvings, channels) for halvings in range(settings.num_scales))
            else:
                self.members.extend(
                    ResolutionDiscriminator(window, settings.resolution_channels) for window in settings.resolutions
                )

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> list[Judgement]:
        """Judge a batch.

        Args:
            waveform: float (B, S).
            lengths: int64 (B,), real samples of each row; what comes after is not heard. None: all are real.
        """
        if lengths is not None:
            steps = torch.arange(waveform.shape[1], device=waveform.device)
            waveform = waveform.masked_fill(steps >= lengths[:, None], 0.0)
        return [member(waveform, lengths) for member in self.members]
