"""The multi-resolution discriminator: members hear complex spectra of several windows, in bands of frequency.

Source: Jang et al., "UnivNet", Interspeech 2021, section 2.2, on complex spectra in bands as the discriminator of
Descript's audio codec (Kumar et al., NeurIPS 2023, section 3.3) and of Vocos.
"""

import itertools

import torch
from torch.nn.utils.parametrizations import weight_norm

from pipeline.vocoder.discriminators.judging import SLOPE, Judgement, Map, judged, real_steps
from pipeline.vocoder.spectra import spectra, spectra_lengths

_BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Where bands of frequency meet, as shares of all bins."""


class ResolutionDiscriminator(torch.nn.Module):
    """One window; the hop is a quarter of it.

    Args:
        window: Samples.
        channels: Of each layer.
    """

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.window, self.hop = window, window // 4
        bins = window // 2 + 1
        edges = [round(share * bins) for share in _BANDS]
        self.bands = [slice(low, high) for low, high in itertools.pairwise(edges)]
        self.stacks = torch.nn.ModuleList(_stack(channels) for _ in self.bands)
        self.last = weight_norm(torch.nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None) -> Judgement:
        """Judge (B, S), 0 in padding; lengths are int64 (B,), samples, or None."""
        found = torch.view_as_real(spectra(waveform, self.window, self.hop)).permute(0, 3, 2, 1)
        steps = None if lengths is None else spectra_lengths(lengths, self.hop)
        if steps is not None:
            found = found.masked_fill(~real_steps(found, steps), 0.0)
        maps: list[Map] = []
        ends = []
        for band, stack in zip(self.bands, self.stacks, strict=True):
            heard = judged(stack, found[..., band], steps).maps  # type: ignore[arg-type]
            maps += heard
            ends.append(heard[-1].values)
        joined = torch.nn.functional.leaky_relu(torch.cat(ends, dim=3), SLOPE)
        return Judgement(maps=(*maps, *judged([self.last], joined, steps).maps))


def _stack(channels: int) -> torch.nn.ModuleList:
    """Make the convolutions of one band over (time, frequency); only frequency is strided."""
    convs = [torch.nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
    convs += [torch.nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(1, 4)) for _ in range(3)]
    convs.append(torch.nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)))
    return torch.nn.ModuleList(weight_norm(conv) for conv in convs)
