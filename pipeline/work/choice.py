"""Which runner does the work of a stage: the setting, and what ``auto`` goes by."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.work.joined import joined_cluster
from pipeline.work.runner import Runner, RunnerKind

logger = logging.getLogger(__name__)

RunnerName = Literal["auto", "ray", "here"]

HERE_MINUTES = 60.0
"""Minutes of audio up to which ``auto`` does the work in this process. Ray's workers take 10 s or more to start in each
stage; past an hour that is a small share, and a recording that kills its worker then costs a shard and not the run."""


@dataclass(frozen=True, kw_only=True)
class RunnerSettings(Settings):
    """The setting that every stage has which gives work away."""

    runner: RunnerName = "auto"
    """Who does the work: ray, which is a cluster or processes of this machine; here, which is threads of this process;
    or auto, which is here for at most 60 minutes of audio where no cluster is joined."""

    def choice(self, seconds: float) -> "Choice":
        """Give the runner that these settings ask for.

        Args:
            seconds: Audio that the work is about.
        """
        return Choice(self.runner, seconds)


class Choice:
    """The runner of a stage, chosen when it is first needed, and told of in one line of the log."""

    _told: str | None = None

    def __init__(self, name: RunnerName, seconds: float) -> None:
        """Ask for a runner.

        Args:
            name: ``ray``, ``here``, or ``auto``: here for little work where no cluster is joined.
            seconds: Audio that the work is about.

        Raises:
            SettingsError: There is no such runner.
        """
        if name not in ("auto", "ray", "here"):
            raise SettingsError(f"runner must be auto, ray or here, got {name!r}")
        self._name = name
        self._minutes = seconds / 60

    @cached_property
    def runner(self) -> Runner:
        """The runner; Ray is started or joined by what is asked of it."""
        name, why = self._decide()
        line = f"runner: {'Ray' if name == 'ray' else 'this process'}, because {why}"
        if line != Choice._told:
            logger.info(line)
            Choice._told = line
        if name == "ray":
            from pipeline.work.on_ray import OnRay

            return OnRay()
        from pipeline.work.here import Here

        return Here()

    def _decide(self) -> tuple[RunnerKind, str]:
        if self._name != "auto":
            return self._name, f"--runner {self._name} asks for it"
        joined = joined_cluster()
        if joined is not None:
            return "ray", joined.why
        if self._minutes > HERE_MINUTES:
            return "ray", f"{self._minutes:,.0f} minutes of audio are more than {HERE_MINUTES:g}"
        return "here", (
            f"no Ray cluster is joined and {self._minutes:,.1f} minutes of audio are at most {HERE_MINUTES:g}; "
            "--runner ray starts Ray"
        )
