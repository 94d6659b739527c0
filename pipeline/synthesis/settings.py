"""Settings of synthesize, checked before Ray starts."""

from dataclasses import dataclass, field
from typing import Literal, Self

from pipeline.errors import SettingsError
from pipeline.features.encoders import shipped
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.shipped import is_shipped
from pipeline.work.choice import RunnerSettings
from pipeline.work.worker_shape import Placement


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(Settings):
    """Settings of synthesize."""

    output: str
    """Folder of the speech, local or s3://; with --file the recording to write, as out.wav or out.flac."""
    vocoder: str | None = None
    """The vocoder's folder, local or s3://, or vocoder-small, which ships for tokens of encoder-small; default with
    --file: that inside the tokenizer's folder."""
    tokens: str | None = None
    """Tokens dataset to speak, local or s3://."""
    export: str | None = None
    """Export of tokens to speak instead, local or s3://."""
    file: str | None = None
    """One recording to tokenise and speak, here and without Ray."""
    tokenizer: str | None = None
    """Folder of the tokenizer, for --file, or encoder-small, the one that ships."""
    manifest: str | None = None
    """Manifest that the tokens were made from: gives labels to the speech, and speakers to a vocoder of several."""
    layers: tuple[int, ...] = ()
    """Layers to speak from, any of the vocoder's; default: all that the tokens have."""
    speaker: str | None = None
    """Who is to speak all of it, where the vocoder has several; default: each utterance's own, by the manifest."""
    speaker_reference: str | None = None
    """Recording, local or s3://, of who is to speak all of it, where the vocoder takes vectors as speakers; with --file
    it is that file by default."""
    speaking: SpeakingSettings = field(default_factory=SpeakingSettings)
    """How the vocoder is given its work."""
    threads_per_worker: int = 1
    """Compute threads of a worker on CPU; part of the plan, because bits depend on it."""
    num_workers: int | None = None
    """Workers; default: one per GPU, or one per thread that the CPUs have."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, as 0.5 for two on each, 0 for CPUs only; default: 1 where there are GPUs."""
    numerics: Literal["same", "any"] = "same"
    """Whether the dataset may mix machines whose bits may differ (device, CPU type, library versions)."""
    max_reject_fraction: float = 0.01
    """Share of the utterances that may be rejected."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        given = [name for name in ("tokens", "export", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise SettingsError(f"give one of --tokens, --export and --file, got {' and '.join(given) or 'none'}")
        self.check_parts(given[0])
        if self.file is not None and self.manifest is not None:
            raise SettingsError("--manifest goes with --tokens or --export, not with --file")
        if self.speaker is not None and self.speaker_reference is not None:
            raise SettingsError("give --speaker or --speaker-reference, not both: each says who speaks all of it")
        if len(set(self.layers)) < len(self.layers) or any(layer < 0 for layer in self.layers):
            raise SettingsError(f"layers must be different numbers from 0 on, got {list(self.layers)}")
        if not 0 <= self.max_reject_fraction <= 1:
            raise SettingsError(f"max_reject_fraction must be in [0, 1], got {self.max_reject_fraction:g}")
        # Built once here for its own checks, before Ray starts.
        _ = self.placement

    def check_parts(self, given: str) -> None:
        """Refuse parts that are absent or not asked for.

        Args:
            given: What is spoken: tokens, export or file.

        Raises:
            SettingsError: So they are.
        """
        if self.file is None and self.vocoder is None:
            raise SettingsError(f"--{given} needs --vocoder, the folder that train_vocoder wrote")
        if (self.file is None) != (self.tokenizer is None):
            raise SettingsError("--file needs --tokenizer, which --tokens and --export do not take")

    @property
    def placement(self) -> Placement:
        """How the stage wants to lie on the cluster."""
        return Placement(
            threads=self.threads_per_worker, num_workers=self.num_workers, gpus_per_worker=self.gpus_per_worker
        )

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        vocoder = () if self.vocoder is None or is_shipped(self.vocoder) else ("vocoder",)
        tokenizer = () if self.tokenizer is None or shipped.is_shipped(self.tokenizer) else ("tokenizer",)
        inputs = ("tokens", "export", "file", "manifest", "speaker_reference")
        return located(self, "output", *inputs, *vocoder, *tokenizer)
