"""What run_study says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a run of a study did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: ``study``.
        output: Its folder.
        trials: Of the study.
        trials_done: That are done.
        trials_done_now: That this run did.
        failed: What failed trials raised, by name.
        findings: Sentences that the numbers give by rule.
        claims: Verdict of each claim of the paper.
        wall_seconds: Time this run took.
    """

    stage: str
    output: str
    trials: int
    trials_done: int
    trials_done_now: int
    failed: Mapping[str, str]
    findings: tuple[str, ...]
    claims: Mapping[str, str]
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("report", f"{self.output}/index.html")]
        lines.append(("trials", f"{self.trials_done:,} of {self.trials:,} done, {self.trials_done_now:,} of them now"))
        lines += [(f"failed: {name}", why) for name, why in self.failed.items()]
        lines += [("found", sentence) for sentence in self.findings]
        lines += [(verdict, claim) for claim, verdict in self.claims.items()]
        return [*lines, ("wall time", f"{self.wall_seconds / 60:.1f} minutes")]
