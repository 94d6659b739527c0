"""Losses between a vocoder and its discriminators, over what is real of each utterance.

Source: least squares, Kong et al., HiFi-GAN, NeurIPS 2020, section 2.4 (Mao et al., LSGAN, ICCV 2017); hinge, Lim and
Ye, "Geometric GAN", 2017, with the generator's side clipped too, as in SoundStream (Zeghidour et al., 2021, section
3.5); feature matching, Kumar et al., MelGAN, NeurIPS 2019, section 2.2.2, here a mean over all maps.
"""

from collections.abc import Sequence

import torch

from pipeline.vocoder.discriminators.judging import Judgement
from pipeline.vocoder.settings import AdversarialLoss


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement], kind: AdversarialLoss) -> torch.Tensor:
    """Give what the discriminators learn from: real scores far above fake ones; summed over discriminators.

    Least squares: (real - 1)^2 + fake^2. Hinge: max(0, 1 - real) + max(0, 1 + fake).

    Args:
        real: Of recordings.
        fake: Of what the vocoder spoke, without its gradient.
        kind: Which loss.
    """
    terms = []
    for judge_real, judge_fake in zip(real, fake, strict=True):
        high, low = judge_real.scores, judge_fake.scores
        if kind == "hinge":
            terms.append(high.mean(torch.relu(1 - high.values)) + low.mean(torch.relu(1 + low.values)))
        else:
            terms.append(high.mean((high.values - 1).square()) + low.mean(low.values.square()))
    return torch.stack(terms).sum()


def adversarial_loss(fake: Sequence[Judgement], kind: AdversarialLoss) -> torch.Tensor:
    """Give what the vocoder learns from scores: fake ones as real ones; summed over discriminators.

    Least squares: (fake - 1)^2. Hinge: max(0, 1 - fake).

    Args:
        fake: Of what the vocoder spoke.
        kind: Which loss.
    """
    terms = []
    for judgement in fake:
        scores = judgement.scores
        short = 1 - scores.values
        terms.append(scores.mean(torch.relu(short) if kind == "hinge" else short.square()))
    return torch.stack(terms).sum()


def feature_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> torch.Tensor:
    """Give the mean absolute difference of what the layers of discriminators hear, averaged over layers.

    Args:
        real: Of recordings; they get no gradient.
        fake: Of what the vocoder spoke.
    """
    terms = [
        theirs.mean((theirs.values - ours.values.detach()).abs())
        for judge_real, judge_fake in zip(real, fake, strict=True)
        for ours, theirs in zip(judge_real.maps, judge_fake.maps, strict=True)
    ]
    return torch.stack(terms).mean()
