"""The settings that say which stretches of a recording are utterances, shared by the jobs that build a manifest."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from pipeline.audio.segment_lists import FORMATS
from pipeline.audio.vad import VadSettings
from pipeline.errors import SettingsError
from pipeline.settings import Settings

_VAD = VadSettings()


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(Settings):
    """Whole recordings by default; the segments of a list; or the speech that VAD finds."""

    segments: str | None = None
    """List of segments that become the utterances, local or s3://: CSV, TSV, JSON lines, RTTM or Kaldi segments."""
    segments_format: Literal["auto", "csv", "tsv", "jsonl", "rttm", "kaldi"] = "auto"
    """Form of --segments; auto: by its ending, else by its first line."""
    vad: Literal["silero"] | None = None
    """Find the speech in every recording and make each stretch an utterance; needs the extra vad."""
    vad_threshold: float = _VAD.threshold
    """Probability of speech from which speech begins, above 0 and below 1."""
    vad_min_speech_seconds: float = _VAD.min_speech_seconds
    """Shortest speech that is kept, seconds."""
    vad_min_silence_seconds: float = _VAD.min_silence_seconds
    """Shortest pause that ends an utterance, seconds."""
    vad_pad_seconds: float = _VAD.pad_seconds
    """Audio kept before and after speech, seconds."""
    vad_max_segment_seconds: float = _VAD.max_segment_seconds
    """Longest utterance, seconds; longer speech is split where it is least likely speech."""

    def __post_init__(self) -> None:
        if self.segments_format not in FORMATS:
            raise SettingsError(f"segments_format must be one of {', '.join(FORMATS)}, got {self.segments_format!r}")
        if self.segments and self.vad:
            raise SettingsError("segments and vad exclude each other: take the segments of a list, or find them")
        if self.segments_format != "auto" and not self.segments:
            raise SettingsError("segments_format has no effect without segments")
        if self.vad not in (None, "silero"):
            raise SettingsError(f"vad must be silero, got {self.vad!r}")
        settings = self._vad_settings()
        idle = [field.name for field in fields(VadSettings) if getattr(settings, field.name) != field.default]
        if idle and not self.vad:
            raise SettingsError(f"vad_{idle[0]} has no effect without vad; add --vad silero")

    def vad_settings(self) -> VadSettings | None:
        """Give the settings of VAD, None where it is not asked for."""
        return self._vad_settings() if self.vad else None

    def content(self) -> dict[str, Any]:
        """Say what of the content key comes from these settings; a list is in it through the corpus.

        Raises:
            SettingsError: VAD is asked for and not installed.
        """
        settings = self.vad_settings()
        return {} if settings is None else {"vad": {"network": self.vad, **settings.content()}}

    def _vad_settings(self) -> VadSettings:
        return VadSettings(**{field.name: getattr(self, f"vad_{field.name}") for field in fields(VadSettings)})
