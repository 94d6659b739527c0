"""Padding that no convolution hears: what is in it becomes 0 before each one.

A convolution then sees past the end of an utterance what it sees past the end of the batch, zeros, so an utterance in
a batch and alone is the same. Letters: B batch, C channels, T frames or samples.
"""

import torch


def needed(mask: torch.Tensor) -> torch.Tensor | None:
    """Give the mask, bool (B, T), where it masks anything; None saves a pass over memory per convolution."""
    return None if bool(mask.all()) else mask


def silenced(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set the padding of values (B, C, ..., T) to 0; mask is bool (B, T), or None where there is no padding."""
    if mask is None:
        return values
    return values.masked_fill(~mask.reshape(len(mask), *[1] * (values.ndim - 2), -1), 0.0)


def stretched(mask: torch.Tensor | None, rate: int) -> torch.Tensor | None:
    """Repeat each step of a mask (B, T): (B, rate * T)."""
    return None if mask is None else mask.repeat_interleave(rate, dim=1)
