"""The settings that say what a corpus is, and how it becomes a manifest: of build_manifest and run_pipeline."""

from dataclasses import dataclass
from typing import Literal

from pipeline.audio import corpora
from pipeline.errors import SettingsError
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """What the corpus is, and how it becomes a manifest."""

    corpus: str
    """Folder, listing, pattern of tars (a-{000..099}.tar) or Parquet file of the corpus, local or s3://."""
    layout: Literal[
        "folder",
        "listing",
        "webdataset",
        "parquet",
        "librispeech",
        "libritts",
        "librilight",
        "ljspeech",
        "vctk",
        "mls",
        "commonvoice",
        "voxceleb",
        "iemocap",
        "emodb",
        "timit",
        "fsdd",
        "voicebank",
        "voicebank-clean",
        "gigaspeech",
        "peoples-speech",
        "voxpopuli",
        "emilia",
        "lhotse",
        "lhotse-shar",
        "nemo",
        "kaldi",
    ]
    """How the corpus lies: any folder of audio, a CSV/JSONL/Parquet listing of files, audio inside tar shards or
    inside Parquet, a known corpus, or the manifests of lhotse, NeMo or Kaldi."""
    audio_column: str | None = None
    """Column of Parquet that holds the audio; default: the one that does."""
    channels: Literal["mix", "pick", "split"] = "mix"
    """What to do with several channels: average them, pick one, or make each an utterance of its own."""
    pick_channel: int = 0
    """The channel that --channels pick takes, from 0."""
    roots: tuple[str, ...] = ()
    """Further folders or prefixes under which audio may lie, beside the corpus folder."""
    shard_minutes: float | None = None
    """Minutes of audio in a shard; default: total / 256, at least 0.5 and at most 30."""
    strict: bool = False
    """Stop, before anything is written, where a part of the corpus would be passed over (files of other endings, labels
    or columns that nothing reads ...), and at a duplicate utterance id instead of rejecting the later one."""

    def __post_init__(self) -> None:
        if self.layout not in corpora.LAYOUTS:
            raise SettingsError(f"layout must be one of {', '.join(corpora.LAYOUTS)}, got {self.layout!r}")
        if self.audio_column is not None and self.layout != "parquet":
            raise SettingsError(f"audio_column is for the layout parquet, got the layout {self.layout}")
        if self.shard_minutes is not None and self.shard_minutes <= 0:
            raise SettingsError(f"shard_minutes must be above 0, got {self.shard_minutes}")
        if self.pick_channel < 0:
            raise SettingsError(f"pick_channel must be at least 0, got {self.pick_channel}")
