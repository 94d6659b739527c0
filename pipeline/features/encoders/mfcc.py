"""The encoders named ``mfcc`` and ``mfcc-cmn``: cepstra with their derivatives, on the clock of the SSL encoders.

39 numbers a frame, layer 0 alone; no files, no weights. A frame hears 400 samples, the next begins 320 later, and
nothing is padded at the ends. They are what HuBERT's first targets were clustered from, at half the frame rate.

``mfcc-cmn`` takes the mean of its cepstra from each utterance (or window of a long one), and with it much of voice
and microphone: clusters of it (K = 100, spoken digits) tell 0.53 bits of the speaker a frame instead of 1.01, and as
much of the digit (0.85).

Source: Hsu et al. 2021, HuBERT, section IV; Kaldi's ``compute-mfcc-feats`` for the cepstra, ``apply-cmvn`` for the
mean; van Niekerk et al. 2021, "Analyzing speaker information", for why.
"""

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Self

from pipeline.audio.clock import Clock

if TYPE_CHECKING:
    import torch

NAME, CENTRED = "mfcc", "mfcc-cmn"
NAMES = (NAME, CENTRED)

RECIPE: dict[str, Any] = {
    "version": 1,
    "sample_rate": 16_000,
    "window": 400,
    "hop_length": 320,
    "fft_length": 512,
    "mel_bins": 23,
    "lowest_hertz": 20,
    "preemphasis": 0.97,
    "cepstra": 13,
    "lifter": 22,
    "delta_reach": 2,
}
"""What the numbers depend on; its hash stands for the weights an encoder would have."""

DIM = 3 * RECIPE["cepstra"]
CLOCK = Clock(sample_rate=RECIPE["sample_rate"], hop_length=RECIPE["hop_length"], receptive_field=RECIPE["window"])


def recipe_sha256(name: str) -> str:
    """Hash the recipe of one of ``NAMES``."""
    return hashlib.sha256(json.dumps({name: RECIPE}, sort_keys=True).encode()).hexdigest()


class Mfcc:
    """Gives the 39 numbers of each frame of a batch; always float32."""

    stem_patch: tuple[int, int] | None = None

    def __init__(self, name: str = NAME) -> None:
        import torch

        from pipeline.features.encoders.log_mel import LogMel

        self._centred = name == CENTRED
        bins, cepstra, lifter = RECIPE["mel_bins"], RECIPE["cepstra"], RECIPE["lifter"]
        self._log_mel = LogMel(
            num_mel_bins=bins, hop_length=RECIPE["hop_length"], sample_rate=RECIPE["sample_rate"], scale=1.0
        )
        order_C, bin_M = torch.arange(cepstra).double(), torch.arange(bins).double()
        # The orthonormal DCT-II, each order with its weight.
        cosines_MC = torch.cos(math.pi / bins * (bin_M[:, None] + 0.5) * order_C) * math.sqrt(2 / bins)
        cosines_MC[:, 0] /= math.sqrt(2)
        self._cosines_MC = cosines_MC * (1 + lifter / 2 * torch.sin(math.pi * order_C / lifter))

    def to(self, device: "torch.device", dtype: "torch.dtype") -> Self:
        """Move to a device; the number format is that of networks, and changes nothing here."""
        self._log_mel.to(device)
        self._cosines_MC = self._cosines_MC.to(device)
        return self

    def __call__(self, waveform_BS: "torch.Tensor", lengths: tuple[int, ...]) -> "list[torch.Tensor]":
        """Compute one batch.

        Args:
            waveform_BS: In [-1, 1], zero past the end of each waveform.
            lengths: Samples of each waveform.

        Returns:
            One layer: float32 (B, T, 39).
        """
        import torch

        cepstra_BTC = self._log_mel(waveform_BS) @ self._cosines_MC
        last_B = torch.tensor([CLOCK.num_frames(length) - 1 for length in lengths])
        if self._centred:
            valid_BT1 = (torch.arange(cepstra_BTC.shape[1]) <= last_B[:, None])[..., None].to(cepstra_BTC.device)
            cepstra_BTC = cepstra_BTC - (cepstra_BTC * valid_BT1).sum(1, keepdim=True) / valid_BT1.sum(1, keepdim=True)
        slopes_BTC = _slopes(cepstra_BTC, last_B)
        return [torch.cat([cepstra_BTC, slopes_BTC, _slopes(slopes_BTC, last_B)], dim=2).float()]


def _slopes(values_BTC: "torch.Tensor", last_B: "torch.Tensor") -> "torch.Tensor":
    """Give the slope of a line fitted to the frames around each; those past the ends repeat the end.

    Args:
        values_BTC: (B, T, C).
        last_B: The last valid frame of each row.
    """
    import torch

    reach = RECIPE["delta_reach"]
    frames_T = torch.arange(values_BTC.shape[1])
    slopes_BTC = torch.zeros_like(values_BTC)
    for step in range(1, reach + 1):
        ahead_BT = (frames_T + step).minimum(last_B[:, None])
        behind_T = (frames_T - step).clamp(min=0).to(values_BTC.device)
        ahead_BTC = ahead_BT.to(values_BTC.device)[..., None].expand_as(values_BTC)
        slopes_BTC += step * (values_BTC.gather(1, ahead_BTC) - values_BTC[:, behind_T])
    return slopes_BTC / (2 * sum(step * step for step in range(1, reach + 1)))
