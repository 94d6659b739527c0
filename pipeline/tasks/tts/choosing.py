"""Which token is taken, of what a network says: the likeliest one, or one drawn among the likely ones.

Source: drawing among the likeliest tokens that together have probability p is nucleus sampling, Holtzman et al. 2020,
arXiv 1904.09751, section 3.1.

Letters: B batch, L layers, K clusters.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.seeds import rng
from pipeline.tasks.tts.settings import GenerationSettings


class Draws:
    """Numbers in [0, 1) for each utterance, step and layer: the same whatever is spoken beside it."""

    def __init__(self, seed: int, keys: Sequence[str], num_layers: int) -> None:
        """Begin.

        Args:
            seed: Of all.
            keys: What tells the utterances apart.
            num_layers: Numbers per step (L).
        """
        self._generators = [rng(seed, "speak", key) for key in keys]
        self._num_layers = num_layers

    def step(self) -> np.ndarray:
        """Give the next ones, float64 (B, L)."""
        return np.stack([generator.random(self._num_layers) for generator in self._generators])

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Go on with some utterances."""
        self._generators = [self._generators[row] for row in rows]


def choose(logits: Sequence[torch.Tensor], settings: GenerationSettings, draws: Draws | None) -> torch.Tensor:
    """Take a token of each layer.

    Args:
        logits: Of each layer, float32 (B, K_l).
        settings: Temperature and top_p.
        draws: Random numbers; None takes the likeliest.

    Returns:
        int64 (B, L).
    """
    if draws is None:
        return torch.stack([each.argmax(dim=-1) for each in logits], dim=1)
    numbers = torch.from_numpy(draws.step()).to(logits[0].device)
    taken = [_drawn(each / settings.temperature, settings.top_p, numbers[:, n]) for n, each in enumerate(logits)]
    return torch.stack(taken, dim=1)


def _drawn(logits: torch.Tensor, top_p: float, numbers: torch.Tensor) -> torch.Tensor:
    probabilities, order = logits.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    sums = probabilities.cumsum(dim=-1)
    # The first whose sum reaches top_p is the last one that is kept.
    kept = probabilities.masked_fill(sums - probabilities >= top_p, 0.0).cumsum(dim=-1)
    place = (kept <= numbers.unsqueeze(1) * kept[:, -1:]).sum(dim=-1).clamp(max=logits.shape[-1] - 1)
    return order.gather(1, place.unsqueeze(1)).squeeze(1)


def drawing(settings: GenerationSettings, keys: Sequence[str], num_layers: int) -> Draws | None:
    """Give the random numbers of utterances; None where the likeliest tokens are taken."""
    return Draws(settings.seed, keys, num_layers) if settings.temperature > 0 else None
