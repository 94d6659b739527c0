"""Settings of enhance, checked before Ray starts: those of synthesize, and what makes clean tokens of noisy ones."""

from dataclasses import dataclass
from typing import Self

from pipeline.errors import SettingsError
from pipeline.features.encoders import shipped
from pipeline.store.storage import join, located
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.tasks.enhancement import ENHANCEMENT
from pipeline.vocoder.saved import VOCODER
from pipeline.vocoder.shipped import NAME as SHIPPED_VOCODER


@dataclass(frozen=True, kw_only=True)
class EnhanceConfig(SynthesizeConfig):
    """Settings of enhance."""

    bundle: str | None = None
    """Folder of a tokenizer with a vocoder in vocoder/ and an enhancement in se/, which the parts then need not name;
    with --tokens and --export local or s3://."""
    task: str | None = None
    """Folder that train_task --task se wrote, local or s3://; default: that inside the bundle."""
    vocoder: str | None = None
    """The vocoder's folder, local or s3://, or vocoder-small, which ships for tokens of encoder-small; default: that
    inside the bundle."""
    tokens: str | None = None
    """Tokens dataset of noisy recordings, local or s3://."""
    export: str | None = None
    """Export of tokens of noisy recordings instead, local or s3://."""
    file: str | None = None
    """One noisy recording to enhance, here and without Ray."""
    tokenizer: str | None = None
    """Folder of the tokenizer, for --file, or encoder-small, the one that ships; default: the bundle."""
    layers: tuple[int, ...] = ()
    """Layers to speak from, any that the task says and the vocoder knows; default: all of them."""

    def check_parts(self, given: str) -> None:
        """Refuse parts that are absent or not asked for.

        Args:
            given: What is enhanced: tokens, export or file.

        Raises:
            SettingsError: So they are.
        """
        if self.file is None and self.tokenizer is not None:
            raise SettingsError(f"--tokenizer goes with --file, not with --{given}, whose tokens are there already")
        parts = ("task", "vocoder") if self.file is None else ("tokenizer",)
        if self.bundle is None and (absent := [name for name in parts if getattr(self, name) is None]):
            told = " and ".join(f"--{name}" for name in absent)
            raise SettingsError(f"--{given} needs --bundle, or {told} beside what is given")
        if self.task is None and shipped.is_shipped(self._folder or ""):
            raise SettingsError(f"{shipped.NAME} ships without an enhancement; give --task, which train_task wrote")

    @property
    def _folder(self) -> str | None:
        """The folder that holds the parts that are not named."""
        return self.bundle if self.bundle is not None else self.tokenizer

    def resolved(self) -> Self:
        """Give the same settings with each part named."""
        folder = self._folder
        if folder is None:
            return self
        vocoder = SHIPPED_VOCODER if shipped.is_shipped(folder) else join(folder, VOCODER)
        tokenizer = None if self.file is None else self.tokenizer or folder
        return self.but(
            task=self.task or join(folder, ENHANCEMENT), vocoder=self.vocoder or vocoder, tokenizer=tokenizer
        )

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        bundle = () if self.bundle is None or shipped.is_shipped(self.bundle) else ("bundle",)
        return located(super().located(), "task", *bundle)
