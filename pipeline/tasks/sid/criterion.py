"""Additive angular margin softmax: the right speaker's angle must be smaller than all others' by a margin.

Source: Deng et al. 2019, ArcFace, arXiv 1801.07698, equation 3. Past pi - margin, where cos(angle + margin) would rise
again, the straight line of the authors' code goes on falling.

Letters: B batch, C speakers.
"""

import math

import torch
from torch.nn.functional import cross_entropy

_LEAST = 1e-6
"""Least squared sine: the derivative of the sine is infinite at cosines of 1 and -1."""


def with_margin(cosines: torch.Tensor, margin: float) -> torch.Tensor:
    """Give cos(angle + margin) of cosines in [-1, 1], falling in the angle throughout; margin in radians."""
    sines = (1 - cosines**2).clamp(min=_LEAST).sqrt()
    turned = cosines * math.cos(margin) - sines * math.sin(margin)
    return torch.where(cosines > -math.cos(margin), turned, cosines - margin * math.sin(margin))


def margin_losses(cosines: torch.Tensor, speakers: torch.Tensor, *, margin: float, scale: float) -> torch.Tensor:
    """Give each utterance's loss in nats, float32 (B,).

    Args:
        cosines: float32 (B, C).
        speakers: Right speaker of each, int64 (B,).
        margin: Radians.
        scale: What cosines are multiplied by before the softmax.
    """
    right = speakers.unsqueeze(1)
    logits = cosines.scatter(1, right, with_margin(cosines.gather(1, right), margin))
    return cross_entropy(scale * logits, speakers, reduction="none")
