"""What a discriminator gives, and its convolutions, in which padding is 0 as past the end of an utterance.

Letters: B batch, S samples, C channels, and the axes of a map: (B, C, steps) or (B, C, steps, others).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SLOPE = 0.1
TIME = 2
"""The axis of time in a map."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """What one layer of a discriminator gives.

    Attributes:
        values: (B, C, steps, ...), 0 in padding.
        valid: bool (B, 1, steps, 1...), True where it is none; None where all is real.
    """

    values: torch.Tensor
    valid: torch.Tensor | None

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Give the mean of values, shaped as the map's, over what is real."""
        if self.valid is None:
            return values.float().mean()
        share = values.shape[1] * values[0, 0, 0].numel()
        return values.float().masked_fill(~self.valid, 0.0).sum() / (self.valid.sum() * share).clamp(min=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What one discriminator thinks of a batch.

    Attributes:
        maps: Those of its layers in order; the last holds its scores, high for real speech.
    """

    maps: tuple[Map, ...]

    @property
    def scores(self) -> Map:
        """The scores."""
        return self.maps[-1]


def judged(convs: Iterable[torch.nn.Module], values: torch.Tensor, lengths: torch.Tensor | None) -> Judgement:
    """Run convolutions, each but the last followed by leaky ReLU, and keep what each gives.

    Args:
        convs: Over time, and maybe one axis more.
        values: (B, C, steps, ...), 0 in padding.
        lengths: int64 (B,), real steps of each row; None: all.
    """
    maps: list[Map] = []
    for conv in convs:
        values, lengths = conv(values if not maps else F.leaky_relu(values, SLOPE)), conv_lengths(conv, lengths)
        valid = None if lengths is None else real_steps(values, lengths)
        if valid is not None:
            values = values.masked_fill(~valid, 0.0)
        maps.append(Map(values=values, valid=valid))
    return Judgement(maps=tuple(maps))


def conv_lengths(conv: torch.nn.Module, lengths: torch.Tensor | None) -> torch.Tensor | None:
    """Give the steps that a convolution makes of rows of these lengths alone."""
    if lengths is None:
        return None
    kernel, stride, padding = (each[0] for each in (conv.kernel_size, conv.stride, conv.padding))  # type: ignore[index]
    return (lengths + 2 * padding - kernel) // stride + 1


def real_steps(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Say which steps are real: bool (B, 1, steps, 1...)."""
    steps = torch.arange(values.shape[TIME], device=values.device) < lengths[:, None]
    return steps.reshape(len(values), 1, -1, *[1] * (values.ndim - 3))
