"""Settings of describe_codebooks, and those of them that sweep_codebooks has too."""

from dataclasses import dataclass, field

from pipeline.audio.labels import check_columns
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class SpeechSettings(Settings):
    """What the codes are compared with."""

    manifest: str | None = None
    """Manifest of the features that codebooks are described on; needed with --labels and --splits."""
    labels: tuple[str, ...] = ()
    """Columns of the manifest to compare the codes with, as: speaker emotion text."""
    splits: tuple[str, ...] = ()
    """Describe only utterances of these splits of the manifest; default: all."""
    alignments: str | None = None
    """CSV or Parquet of labelled intervals, as phones: utterance_id, start_seconds, end_seconds, label; s3:// or a path
    that all nodes see."""

    def __post_init__(self) -> None:
        if (self.labels or self.splits) and self.manifest is None:
            raise SettingsError("--labels and --splits are read from a manifest: give --manifest too")
        check_columns(self.labels)


@dataclass(frozen=True, kw_only=True)
class DescribeCodebooksConfig(Settings):
    """Settings of describe_codebooks."""

    codebooks: str
    """Codebooks dataset, local or s3://; the cards go into its folder _cards."""
    features: str
    """Features dataset to describe them on, best of speech they were not fitted on, local or s3://."""
    layers: tuple[int, ...] = ()
    """Layers to describe; default: every layer that has a codebook."""
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    """What the codes are compared with."""
    compare: str | None = None
    """Codebooks dataset of another seed, to say how far the codes agree."""
    num_workers: int | None = None
    """Tasks at a time; default: one a CPU."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise SettingsError(f"num_workers must be at least 1, got {self.num_workers}")
