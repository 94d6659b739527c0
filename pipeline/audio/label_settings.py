"""The settings that join labels to a corpus by id: of build_manifest and run_pipeline."""

from dataclasses import dataclass

from pipeline.audio.listings import SUFFIXES
from pipeline.errors import SettingsError
from pipeline.settings import Settings

DEFAULT_KEY = "utterance_id"
"""The column of ids where none is named; ``id`` is understood too, as in listings."""


@dataclass(frozen=True, kw_only=True)
class LabelSettings(Settings):
    """A table of labels beside the corpus, none by default."""

    labels: str | None = None
    """Table of labels that are joined to the utterances by id, local or s3://: CSV, TSV, JSON lines or Parquet, with
    columns named as in listings; a value there counts before the corpus's own."""
    key: str = DEFAULT_KEY
    """Column of --labels that holds the id: an utterance_id, or what one encodes, as a path below the corpus."""

    def __post_init__(self) -> None:
        if self.key != DEFAULT_KEY and self.labels is None:
            raise SettingsError("key has no effect without labels; it names the column of ids in --labels")
        if not self.key:
            raise SettingsError("key must name the column of --labels that holds the id")
        if self.labels is not None and not self.labels.lower().endswith(SUFFIXES):
            raise SettingsError(f"labels must end in {', '.join(SUFFIXES)}, got {self.labels}")
