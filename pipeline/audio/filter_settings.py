"""The settings that say which utterances of a corpus a manifest holds: of build_manifest and run_pipeline."""

import math
from dataclasses import dataclass
from typing import Any

from pipeline.audio.conditions import Condition, check_words
from pipeline.errors import SettingsError
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class FilterSettings(Settings):
    """All utterances by default; those that a condition names; or a sample."""

    where: str | None = None
    """Keep the utterances of which this is true, as "duration between 1 and 30 and language = 'en'": comparisons in
    SQL's words of utterance_id, duration (seconds), sample_rate, channel and the labels; needs the extra filters."""
    sample_hours: float | None = None
    """Keep a sample of this many hours, of what --where keeps: chosen by a hash of the utterance_id, so that a smaller
    sample is part of a larger one."""
    sample_seed: int = 0
    """Seed of --sample-hours."""

    def __post_init__(self) -> None:
        if self.where is not None:
            check_words(self.where)
        if self.sample_hours is not None and not (self.sample_hours > 0 and math.isfinite(self.sample_hours)):
            raise SettingsError(f"sample_hours must be above 0 and finite, got {self.sample_hours}")
        if self.sample_seed and self.sample_hours is None:
            raise SettingsError("sample_seed has no effect without sample_hours")

    def condition(self) -> Condition | None:
        """Give the condition; None where none is asked for.

        Raises:
            SettingsError: It cannot be read, is no truth value, or polars is not installed.
        """
        return None if self.where is None else Condition(self.where)

    def content(self) -> dict[str, Any]:
        """Say what of the content key comes from these settings.

        Raises:
            SettingsError: The condition cannot be used.
        """
        self.condition()
        content: dict[str, Any] = {} if self.where is None else {"where": self.where}
        if self.sample_hours is not None:
            content |= {"sample_hours": self.sample_hours, "sample_seed": self.sample_seed}
        return content
