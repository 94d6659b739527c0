"""Settings of run_study, checked before anything is read."""

from dataclasses import dataclass, field
from typing import Self

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import absolute, located
from pipeline.study.costing.assumptions import Assumptions
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class RunStudyConfig(Settings):
    """Settings of run_study."""

    study: str
    """The study: a TOML file, or the name of one that ships (small, paper)."""
    output: str
    """Folder of the study, local or s3://: what trials share, trials, tables and the report."""
    data: str | None = None
    """Folder, local or s3://, in which the relative paths of the study's corpora lie; default: the working folder."""
    results_from: tuple[str, ...] = ()
    """Folders, local or s3://, of other runs or of their reports: a trial that is done there is taken over, not run."""
    tasks: tuple[str, ...] = ()
    """Tasks whose trials are run now; default: all of the study."""
    trials_at_once: int | None = None
    """Trials at the same time; default: as many as the machines have CPUs, or GPUs, for. In one process: one."""
    threads_per_trial: int = 1
    """Compute threads of a trial on CPU; its results may differ in the last bits with another number."""
    gpus_per_trial: float = 0.0
    """GPUs of a trial, or a share of one."""
    max_hours: float | None = None
    """Hours of this run after which no further trial begins; the report is of what is there."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""
    assuming: Assumptions = field(default_factory=Assumptions)
    """What --estimate assumes."""

    def __post_init__(self) -> None:
        if self.trials_at_once is not None and self.trials_at_once < 1:
            raise SettingsError(f"trials_at_once must be at least 1, got {self.trials_at_once}")
        if self.threads_per_trial < 1:
            raise SettingsError(f"threads_per_trial must be at least 1, got {self.threads_per_trial}")
        if self.gpus_per_trial < 0:
            raise SettingsError(f"gpus_per_trial must be at least 0, got {self.gpus_per_trial:g}")
        if self.max_hours is not None and not self.max_hours > 0:
            raise SettingsError(f"max_hours must be above 0, got {self.max_hours:g}")
        if len(set(self.tasks)) < len(self.tasks):
            raise SettingsError(f"tasks must differ, got {', '.join(self.tasks)}")
        if self.work.runner == "here" and (self.trials_at_once or 1) > 1:
            raise SettingsError("runner here trains one trial after the other; take --runner ray for several at once")

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        found = located(self, "output").but(results_from=tuple(map(absolute, self.results_from)))
        return found if self.data is None else found.but(data=absolute(self.data))
