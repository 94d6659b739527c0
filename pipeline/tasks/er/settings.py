"""Settings of emotion recognition; loads no torch."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ErSettings(Settings):
    """The loss of emotion recognition."""

    class_weights: Literal["none", "inverse"] = "none"
    """Weight of each class in the loss: none, or the inverse of its share of the training utterances."""

    def __post_init__(self) -> None:
        if self.class_weights not in ("none", "inverse"):
            raise SettingsError(f"class_weights must be none or inverse, got {self.class_weights!r}")
