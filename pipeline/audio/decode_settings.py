"""What reading recordings may cost, and how many may fail: shared by the jobs that read audio."""

from dataclasses import dataclass

from pipeline.audio.decode import DecodeLimits
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.redoing import check_reasons


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(Settings):
    """What reading one recording may cost, and how many may fail."""

    decode_timeout_seconds: float = 60.0
    """Time after which the decoding of one utterance, or the reading of its header, is given up, seconds."""
    decode_memory_gb: float = 2.0
    """Memory that the decode process may take, GiB."""
    max_reject_fraction: float = 1.0
    """Share of utterances that may be rejected before the stage stops, 0 to 1."""
    redo_rejects: tuple[str, ...] = ()
    """Reasons, as missing or unreadable, whose rejects are made anew; everything else of the dataset stays as it is."""

    def __post_init__(self) -> None:
        for name in ("decode_timeout_seconds", "decode_memory_gb"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        check_reasons(self.redo_rejects)
        if not 0 <= self.max_reject_fraction <= 1:
            raise SettingsError(f"max_reject_fraction must be in [0, 1], got {self.max_reject_fraction}")

    def limits(self, max_seconds: float = DecodeLimits.max_seconds) -> DecodeLimits:
        """Give what a recording may cost.

        Args:
            max_seconds: Its longest duration, seconds.
        """
        return DecodeLimits(
            max_seconds=max_seconds,
            timeout_seconds=self.decode_timeout_seconds,
            memory_bytes=int(self.decode_memory_gb * 2**30),
        )
