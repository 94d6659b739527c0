"""The report of mix_corpus: what every stage reports, and the ratios that were drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from pipeline.store.dataset import Dataset
from pipeline.work.reporting import StageReport


@dataclass(frozen=True, kw_only=True)
class MixReport(StageReport):
    """What mix_corpus did.

    Attributes:
        snr_db: ``lowest``, ``mean`` and ``highest`` ratio of speech to noise, dB; empty where nothing was mixed.
    """

    snr_db: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, report: StageReport, dataset: Dataset) -> Self:
        """Add to a report what the commits say of the ratios."""
        commits = [commit for commit in dataset.commits() if "snr_db" in commit.notes]
        found = {}
        if commits:
            notes = [commit.notes["snr_db"] for commit in commits]
            found = {
                "lowest": min(note["lowest"] for note in notes),
                "mean": sum(note["sum"] for note in notes) / sum(commit.data.rows for commit in commits),
                "highest": max(note["highest"] for note in notes),
            }
        return cls(**{each.name: getattr(report, each.name) for each in fields(report)}, snr_db=found)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as short label and value pairs."""
        lines = super().lines()
        if self.snr_db:
            told = f"{self.snr_db['lowest']:.1f} to {self.snr_db['highest']:.1f} dB, mean {self.snr_db['mean']:.1f}"
            lines.insert(3, ("speech to noise", told))
        return lines
