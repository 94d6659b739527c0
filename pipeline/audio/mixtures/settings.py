"""Settings of mix_corpus, checked before Ray starts."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, Self

from pipeline.audio.decode import DecodeLimits
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.work.choice import RunnerSettings
from pipeline.work.worker_shape import Placement

SNR_DB = (0.0, 15.0)
_MOST_DB = 100.0


@dataclass(frozen=True, kw_only=True)
class MixCorpusConfig(Settings):
    """Settings of mix_corpus."""

    manifest: str
    """Manifest of the clean utterances, local or s3://."""
    noises: str
    """Manifest of the noises, local or s3://; build_manifest --layout folder makes one of a folder of recordings. Where
    it has splits, utterances get noises of their own split alone."""
    output: str
    """Folder of the noisy utterances, local or s3://; OUTPUT/_manifest is a manifest of them."""
    rooms: str | None = None
    """Manifest of room impulse responses, local or s3://; its splits are kept as those of the noises."""
    room_probability: float = 0.5
    """Share of the utterances that are heard in a room, where there are rooms."""
    snr_db: tuple[float, float] | None = None
    """Lowest and highest ratio of speech to noise, dB, drawn uniformly between; default: 0 15."""
    snrs: tuple[float, ...] = ()
    """Ratios of speech to noise to choose from instead, dB, each as likely."""
    level: Literal["active", "mean"] = "active"
    """The power of speech that the ratio is to: of its active stretches (ITU-T P.56), or the mean with its pauses."""
    passes: int = 1
    """How often each utterance is mixed, each time with another noise, ratio and room."""
    sample_rate: int = 16_000
    """Rate of what is written, Hz; 0: that of each utterance's own recording."""
    seed: int = 0
    """Seed of noises, ratios and rooms."""
    max_utterance_seconds: float = 600.0
    """Longest utterance that is mixed, seconds; longer ones are rejected as too_long. It lies in memory whole."""
    max_reject_fraction: float = 0.01
    """Share of the utterances that may be rejected."""
    num_workers: int | None = None
    """Workers; default: one per CPU."""
    numerics: Literal["same", "any"] = "same"
    """Whether the dataset may mix machines whose bits may differ (CPU type, library versions)."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if self.snr_db is not None and self.snrs:
            raise SettingsError("give --snr-db, a lowest and highest ratio, or --snrs, ratios to choose from, not both")
        if any(not (isfinite(snr) and abs(snr) <= _MOST_DB) for snr in (*(self.snr_db or ()), *self.snrs)):
            raise SettingsError(f"ratios of speech to noise must be in [-{_MOST_DB:g}, {_MOST_DB:g}] dB")
        if self.snr_db is not None and self.snr_db[0] > self.snr_db[1]:
            raise SettingsError(f"snr_db must be two ratios, lowest <= highest, got {self.snr_db[0]} {self.snr_db[1]}")
        if self.level not in ("active", "mean"):
            raise SettingsError(f"level must be active or mean, got {self.level!r}")
        for name in ("room_probability", "max_reject_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be in [0, 1], got {getattr(self, name):g}")
        if self.passes < 1:
            raise SettingsError(f"passes must be at least 1, got {self.passes}")
        limits = DecodeLimits()
        if self.sample_rate and not limits.min_sample_rate <= self.sample_rate <= limits.max_sample_rate:
            raise SettingsError(
                f"sample_rate must be 0, or {limits.min_sample_rate} to {limits.max_sample_rate} Hz, got "
                f"{self.sample_rate}"
            )
        if not self.max_utterance_seconds > 0:
            raise SettingsError(f"max_utterance_seconds must be above 0, got {self.max_utterance_seconds:g}")
        # Built once here for its own checks, before Ray starts.
        _ = self.placement

    @property
    def placement(self) -> Placement:
        """How the stage wants to lie on the cluster."""
        return Placement(num_workers=self.num_workers)

    @property
    def limits(self) -> DecodeLimits:
        """What a recording may cost."""
        return DecodeLimits(max_seconds=self.max_utterance_seconds)

    @property
    def range_db(self) -> tuple[float, float]:
        """The lowest and highest ratio that can be drawn, dB."""
        return (min(self.snrs), max(self.snrs)) if self.snrs else self.snr_db or SNR_DB

    @property
    def rooms_heard(self) -> str | None:
        """The manifest of rooms, where any is to be heard."""
        return self.rooms if self.room_probability else None

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        return located(self, "manifest", "noises", "rooms", "output")
