"""Settings of concatenate_corpus."""

from dataclasses import dataclass
from math import isfinite

from pipeline.errors import SettingsError
from pipeline.schema import LABELS
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ConcatenateCorpusConfig(Settings):
    """Settings of concatenate_corpus."""

    manifest: str
    """Manifest of the short utterances, local or s3://."""
    output: str
    """Folder of the manifest of joined utterances, local or s3://."""
    per_utterance: tuple[int, int] = (4, 7)
    """Fewest and most pieces of a joined utterance; each number between is as likely."""
    by: tuple[str, ...] = ("speaker",)
    """Columns of labels in which all pieces of an utterance agree, beside split."""
    silence_seconds: tuple[float, float] = (0.1, 0.4)
    """Shortest and longest silence between two pieces, seconds."""
    passes: int = 1
    """How often each utterance is used, each time among others."""
    seed: int = 0
    """Seed of what is joined with what, and of the silences."""
    shard_minutes: float | None = None
    """Audio in a shard, minutes; default: a 256th of the corpus, 0.5 to 30."""
    strict: bool = False
    """Refuse to leave utterances over, or without a label."""

    def __post_init__(self) -> None:
        least, most = self.per_utterance
        if not 1 <= least <= most:
            raise SettingsError(f"per_utterance must be two numbers, 1 <= least <= most, got {least} {most}")
        shortest, longest = self.silence_seconds
        if not (isfinite(longest) and 0 <= shortest <= longest):
            raise SettingsError(
                f"silence_seconds must be two lengths, 0 <= shortest <= longest, got {shortest} {longest}"
            )
        if self.passes < 1:
            raise SettingsError(f"passes must be at least 1, got {self.passes}")
        if self.shard_minutes is not None and not self.shard_minutes > 0:
            raise SettingsError(f"shard_minutes must be above 0, got {self.shard_minutes}")
        if unknown := [name for name in self.by if name not in LABELS]:
            raise SettingsError(f"by must name labels ({', '.join(LABELS)}), got {', '.join(unknown)}")
