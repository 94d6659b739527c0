"""Settings of extract_features."""

from dataclasses import dataclass, field
from typing import Self

from pipeline import schema
from pipeline.errors import SettingsError
from pipeline.features.passes.settings import EncodingSettings
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class ExtractFeaturesConfig(Settings):
    """Settings of extract_features."""

    manifest: str
    """Manifest dataset, local or s3://."""
    output: str
    """Folder of the features dataset, local or s3://."""
    encoding: EncodingSettings
    """The encoder's pass over the manifest."""
    sample_fraction: float = 1.0
    """Share of frames to keep, chosen by a hash of (seed, utterance id, frame); 1 keeps every frame."""
    sample_frames: int | None = None
    """Frames to keep, exactly, those of smallest hash over the whole manifest; more than there are keeps every one."""
    stratify_by: str | None = None
    """Column of the manifest, as speaker or language, whose values get equal shares of --sample-frames; values with
    fewer frames give all of theirs, and the others share what that leaves. Utterances without a value are one more."""
    seed: int = 0
    """Seed of the choice of frames."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if not self.encoding.layers:
            raise SettingsError("layers must name at least one layer, as --layers 7 12")
        if not 0 < self.sample_fraction <= 1:
            raise SettingsError(f"sample_fraction must be in (0, 1], got {self.sample_fraction}")
        if self.sample_frames is not None and self.sample_frames < 1:
            raise SettingsError(f"sample_frames must be at least 1, got {self.sample_frames}")
        if self.sample_frames is not None and self.sample_fraction < 1:
            raise SettingsError(
                f"sample_frames {self.sample_frames} and sample_fraction {self.sample_fraction:g} are two sizes of one "
                "sample; give one of them"
            )
        if self.stratify_by is not None and self.sample_frames is None:
            raise SettingsError("stratify_by shares sample_frames out over a column; give --sample-frames too")
        check_stratify_by(self.stratify_by)

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        return located(self, "manifest", "output", *self.encoding.paths())


def check_stratify_by(column: str | None) -> None:
    """Refuse a column that no manifest has.

    Raises:
        SettingsError: The message names the columns there are.
    """
    if column is not None and column not in schema.MANIFEST.names:
        raise SettingsError(
            f"stratify_by must be a column of the manifest ({', '.join(schema.MANIFEST.names)}), got {column!r}"
        )
