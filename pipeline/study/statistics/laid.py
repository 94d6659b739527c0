"""The finished trials of a study, found by task, factor and level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.study.planning.trials import Trial
from pipeline.study.statistics.collecting import Found
from pipeline.study.statistics.comparing import Runs
from pipeline.study.table import CENTRE, VOCODER, Study

ALL = "all"
"""The set of all layers that a vocoder knows."""


@dataclass(frozen=True, kw_only=True)
class Laid:
    """The finished trials of a study by task, factor, level and condition.

    Attributes:
        study: What was asked.
        trials: All that were planned, of every cell and seed.
        found: What the finished ones found, by key.
    """

    study: Study
    trials: Sequence[Trial]
    found: Mapping[str, Found]

    def runs(self, task: str, factor: str, level: str, condition: str | None = None) -> Runs | None:
        """Give the finished trials of a level; None where there are none.

        Args:
            task: Name of the task.
            factor: Name of the factor.
            level: Name of the level, the centre's too.
            condition: For the vocoder: which set of layers it speaks; default: all.
        """
        here = self.study.factors.get(factor)
        centre = here is None or level == here.centre
        wanted = ("", CENTRE) if centre else (factor, level)
        mine = [
            trial for trial in self.trials
            if trial.cell.task.name == task and (trial.cell.factor, trial.cell.level) == wanted
            and trial.key in self.found
        ]  # fmt: skip
        spoken = condition or (ALL if task == VOCODER else "")
        parts = {trial.seed: self.found[trial.key].parts.get(spoken, {}) for trial in mine}
        parts = {seed: found for seed, found in parts.items() if found}
        if not parts:
            return None
        return Runs(
            trials={trial.seed: trial.key for trial in mine if trial.seed in parts},
            parts=parts,
            bits_per_second=self.found[mine[0].key].results[0].bits_per_second,
        )

    def factors_of(self, task: str) -> list[str]:
        """Name the factors that are tried on a task."""
        return [name for name, factor in self.study.factors.items() if task in factor.tasks]
