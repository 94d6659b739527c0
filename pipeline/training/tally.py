"""Sums by the names of metrics, over micro-batches and workers, and the means that they become."""

import math
from collections.abc import Mapping

import torch

from pipeline.training.recipe import Recipe, Sums, prefix_of
from pipeline.training.world import World

Totals = dict[str, tuple[float, float]]
"""Value and count by name."""


class Tally:
    """Adds sums up, in float64, where they were computed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._found: dict[str, torch.Tensor] = {}

    def add(self, sums: Mapping[str, Sums]) -> None:
        """Add the sums of a micro-batch."""
        for name, given in sums.items():
            self._put(name, torch.stack([given.value.detach().double(), given.count.double()]))

    def add_numbers(self, **numbers: tuple[float | torch.Tensor, float]) -> None:
        """Add numbers, each with its count."""
        for name, (value, count) in numbers.items():
            pair = torch.zeros(2, dtype=torch.float64, device=self._device)
            pair[0], pair[1] = value, count
            self._put(name, pair)

    def merge(self, other: "Tally") -> None:
        """Add all that another one holds."""
        for name, pair in other._found.items():
            self._put(name, pair)

    def _put(self, name: str, pair: torch.Tensor) -> None:
        known = self._found.get(name)
        self._found[name] = pair if known is None else known + pair

    def totals(self) -> Totals:
        """Give what this worker has added up."""
        return {name: (pair[0].item(), pair[1].item()) for name, pair in sorted(self._found.items())}

    def summed(self, world: World) -> Totals:
        """Give the totals of all workers, which must have the same names."""
        if not self._found:
            return {}
        names = sorted(self._found)
        pairs = world.sum(torch.stack([self._found[name] for name in names])).tolist()
        return {name: (value, count) for name, (value, count) in zip(names, pairs, strict=True)}


def added(parts: list[Totals]) -> Totals:
    """Add totals up, in their order."""
    found: Totals = {}
    for totals in parts:
        for name, (value, count) in totals.items():
            before = found.get(name, (0.0, 0.0))
            found[name] = (before[0] + value, before[1] + count)
    return found


def means(recipe: Recipe, totals: Totals, step: int) -> dict[str, float]:
    """Turn totals into means, and the losses of each phase into one; what was counted nowhere has no mean.

    Args:
        recipe: Knows the weights of the losses.
        totals: Over all workers.
        step: The step, from 0, whose weights hold.
    """
    found = {name: value / count for name, (value, count) in totals.items() if count}
    for phase in recipe.phases:
        prefix = prefix_of(recipe, phase)
        labels = {name: f"{prefix}{name}_loss" for name in phase.losses}
        if any(label in totals for label in labels.values()):
            weights = phase.weights(step)
            found[f"{prefix}loss"] = sum(weights[name] * found.get(labels[name], 0.0) for name in sorted(labels))
    return found


def not_finite(metrics: Mapping[str, float]) -> bool:
    """Say whether a loss or a norm is not a number, or infinite."""
    return not all(math.isfinite(value) for name, value in metrics.items() if name.endswith(("loss", "gradient_norm")))
