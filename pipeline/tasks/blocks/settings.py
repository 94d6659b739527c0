"""Sizes of the networks that tasks share; loads no torch."""

from dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.settings import Settings


def at_least(settings: object, least: int, *names: str) -> None:
    """Refuse settings below a number.

    Raises:
        SettingsError: One is.
    """
    for name in names:
        if not getattr(settings, name) >= least:
            raise SettingsError(f"{name} must be at least {least}, got {getattr(settings, name)}")


@dataclass(frozen=True, kw_only=True)
class EcapaSettings(Settings):
    """Sizes of an ECAPA-TDNN; the defaults are for a CPU."""

    ecapa_channels: int = 128
    """Channels of the convolutions, a multiple of 8."""
    ecapa_pooled: int = 384
    """Channels that are pooled over time."""
    ecapa_attention: int = 64
    """Width of the attention that pools, and of the squeeze in each block."""
    embedding_width: int = 96
    """Width of an utterance's embedding."""

    def __post_init__(self) -> None:
        at_least(self, 1, "ecapa_channels", "ecapa_pooled", "ecapa_attention", "embedding_width")
        if self.ecapa_channels % 8:
            raise SettingsError(f"ecapa_channels must be a multiple of 8, got {self.ecapa_channels}")
