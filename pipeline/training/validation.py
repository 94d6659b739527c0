"""Validation: each worker judges its share of each set; the first puts sums and rows together and measures them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.training.recipe import Audio, Figure, Modules, Recipe, Row, Source, Tensors
from pipeline.training.settings import TrainingSettings
from pipeline.training.tally import Tally, Totals, added, means
from pipeline.training.trained import autocast, moved
from pipeline.training.world import World


@dataclass(frozen=True, kw_only=True)
class Found:
    """What validating one set gave.

    Attributes:
        metrics: By name; the same on all workers.
        rows: Rows of all workers, on the first one, in the order of the set's micro-batches.
        shown: What the recipe shows, on the first worker.
    """

    metrics: dict[str, float]
    rows: Sequence[Row]
    shown: Sequence[Audio | Figure]


class Validation:
    """The validation sets of a run, and what is said of them after some steps.

    Memory: this worker's share of all micro-batches, which are loaded once.
    """

    def __init__(self, recipe: Recipe, settings: TrainingSettings, world: World, source: Source[Any]) -> None:
        self._recipe, self._settings, self._world = recipe, settings, world
        self._loaded: dict[str, list[tuple[int, Tensors]]] = {}
        for name, tickets in source.validation().items():
            places = range(world.rank, len(tickets), world.size)
            self._loaded[name] = [(place, source.load(tickets[place], -1)) for place in places]

    @torch.no_grad()
    def run(self, modules: Modules, step: int) -> dict[str, Found]:
        """Validate all sets.

        Args:
            modules: All networks; they are put into evaluation mode.
            step: The step, from 0, whose weights hold.
        """
        for module in modules.values():
            module.eval()
        return {name: self._set(name, loaded, modules, step) for name, loaded in self._loaded.items()}

    def _set(self, name: str, loaded: Sequence[tuple[int, Tensors]], modules: Modules, step: int) -> Found:
        recipe, world = self._recipe, self._world
        tally = Tally(world.device)
        rows: list[tuple[int, Sequence[Row]]] = []
        shown: Sequence[Audio | Figure] = ()
        for place, batch in loaded:
            given = moved(batch, world.device)
            with autocast(self._settings, world):
                judged = recipe.judge(modules, given)
                if place == 0:
                    shown = recipe.show(modules, given)
            tally.add(judged.sums)
            rows.append((place, judged.rows))
        gathered: list[tuple[Totals, list[tuple[int, Sequence[Row]]]]] = world.gather((tally.totals(), rows))
        metrics: dict[str, float] | None = None
        together: list[Row] = []
        if world.rank == 0:
            placed = sorted((part for _, parts in gathered for part in parts), key=lambda part: part[0])
            together = [row for _, each in placed for row in each]
            metrics = means(recipe, added([totals for totals, _ in gathered]), step)
            if placed:
                metrics |= recipe.measure(name, together)
        return Found(metrics=world.agree(metrics), rows=together, shown=shown)
