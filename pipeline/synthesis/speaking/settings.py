"""Settings of speak, checked before anything starts."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.store.storage import join, located
from pipeline.tasks.blocks.settings import at_least
from pipeline.tasks.tts.settings import GenerationSettings
from pipeline.tasks.writing import TTS
from pipeline.vocoder.saved import VOCODER
from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.shipped import is_shipped
from pipeline.work.choice import RunnerSettings
from pipeline.work.worker_shape import Placement


@dataclass(frozen=True, kw_only=True)
class SpeakConfig(Settings):
    """Settings of speak."""

    output: str
    """Folder of the speech, local or s3://; with --text the recording to write, as out.wav or out.flac."""
    text: str | None = None
    """One text to speak, here and without Ray."""
    text_file: str | None = None
    """Texts to speak, local or s3://: one per line, or a .jsonl of objects with text, and if known utterance_id and
    speaker."""
    task: str | None = None
    """Folder of a trained tts, local or s3://."""
    vocoder: str | None = None
    """The vocoder's folder, local or s3://, or vocoder-small, which ships for tokens of encoder-small."""
    bundle: str | None = None
    """Folder that holds both, as tts and vocoder, instead of --task and --vocoder."""
    layers: tuple[int, ...] = ()
    """Layers to speak from, any of the vocoder's; default: all that are written."""
    speaker: str | None = None
    """Who is to speak all of it, where tts or vocoder have several; default: as the .jsonl says."""
    speaker_reference: str | None = None
    """Recording, local or s3://, of who is to speak all of it, where the vocoder takes vectors as speakers."""
    unknown: Literal["error", "drop"] = "error"
    """What a character that the tts never learned does: reject its text, or be left out of it."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """How tokens are written."""
    speaking: SpeakingSettings = field(default_factory=SpeakingSettings)
    """How the vocoder is given its work."""
    texts_per_shard: int = 256
    """Texts of one shard, which is committed whole."""
    threads_per_worker: int = 1
    """Compute threads of a worker on CPU; part of the plan, because bits depend on it."""
    num_workers: int | None = None
    """Workers; default: one per GPU, or one per thread that the CPUs have."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, as 0.5 for two on each, 0 for CPUs only; default: 1 where there are GPUs."""
    numerics: Literal["same", "any"] = "same"
    """Whether the dataset may mix machines whose bits may differ (device, CPU type, library versions)."""
    max_reject_fraction: float = 0.1
    """Share of the texts that may be rejected."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if (self.text is None) == (self.text_file is None):
            raise SettingsError("give --text, one text, or --text-file, a file of them; one of the two")
        if self.bundle is not None and (self.task is not None or self.vocoder is not None):
            raise SettingsError("--bundle holds a tts and a vocoder; give it alone, or --task and --vocoder")
        if self.bundle is None and (self.task is None or self.vocoder is None):
            raise SettingsError(
                "give --task, the folder of a trained tts, and --vocoder; or --bundle, which holds both"
            )
        if self.speaker is not None and self.speaker_reference is not None:
            raise SettingsError("give --speaker or --speaker-reference, not both: each says who speaks all of it")
        if self.unknown not in ("error", "drop"):
            raise SettingsError(f"unknown must be error or drop, got {self.unknown!r}")
        if len(set(self.layers)) < len(self.layers) or any(layer < 0 for layer in self.layers):
            raise SettingsError(f"layers must be different numbers from 0 on, got {list(self.layers)}")
        at_least(self, 1, "texts_per_shard", "threads_per_worker")
        if not 0 <= self.max_reject_fraction <= 1:
            raise SettingsError(f"max_reject_fraction must be in [0, 1], got {self.max_reject_fraction:g}")
        # Built once here for its own checks, before Ray starts.
        _ = self.placement

    @property
    def placement(self) -> Placement:
        """How the stage wants to lie on the cluster."""
        return Placement(
            threads=self.threads_per_worker, num_workers=self.num_workers, gpus_per_worker=self.gpus_per_worker
        )

    @property
    def manifest(self) -> None:
        """No manifest names speakers: the texts do."""
        return None

    def located(self) -> Self:
        """Give the same settings with absolute local paths, and a bundle as what it holds."""
        if self.bundle is not None:
            task, vocoder = join(self.bundle, TTS), join(self.bundle, VOCODER)
            return replace(self, bundle=None, task=task, vocoder=vocoder).located()
        shipped = self.vocoder is None or is_shipped(self.vocoder)
        return located(self, "output", "text_file", "task", "speaker_reference", *([] if shipped else ["vocoder"]))
