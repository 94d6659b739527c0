"""Settings of speaker identification; loads no torch."""

import math
from dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SidSettings(Settings):
    """The loss of speaker identification."""

    margin: float = 0.2
    """Angle by which the right speaker must be nearer than all others, radians."""
    scale: float = 30.0
    """What cosines are multiplied by before the softmax."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.pi / 2:
            raise SettingsError(f"margin must be in [0, pi / 2) radians, got {self.margin}")
        if not self.scale > 0:
            raise SettingsError(f"scale must be above 0, got {self.scale}")
