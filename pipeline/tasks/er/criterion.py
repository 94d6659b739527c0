"""Cross-entropy over emotions, each class weighed by how rare it is where that is asked for.

Letters: B batch, C classes.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy


def inverse_frequency(counts: Sequence[int]) -> tuple[float, ...]:
    """Give a weight per class (C) that makes all classes weigh alike in sum, with mean 1 over utterances.

    Args:
        counts: Training utterances of each class (C), each at least 1.

    Raises:
        ValueError: A class has no utterance.
    """
    if min(counts, default=0) < 1:
        raise ValueError(f"every class needs an utterance to be weighed by, got {list(counts)}")
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


def class_losses(logits: torch.Tensor, classes: torch.Tensor, weights: Sequence[float] | None) -> torch.Tensor:
    """Give each utterance's loss in nats times its class's weight, float32 (B,).

    Args:
        logits: float32 (B, C).
        classes: Right class of each, int64 (B,).
        weights: Of each class (C); None weighs all by 1.
    """
    losses = cross_entropy(logits, classes, reduction="none")
    return losses if weights is None else losses * losses.new_tensor(weights)[classes]


def weight_of(classes: torch.Tensor, weights: Sequence[float] | None) -> torch.Tensor:
    """Give what the sum of the losses is divided by: the weights of its utterances added up; scalar."""
    if weights is None:
        return torch.tensor(float(len(classes)), device=classes.device)
    return torch.tensor(weights, device=classes.device)[classes].sum()
