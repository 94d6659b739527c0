"""Sizes of the networks that tasks share; loads no torch."""

from dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.settings import Settings


def at_least(settings: object, least: int, *names: str) -> None:
    """Refuse settings below a number.

    Raises:
        SettingsError: One is.
    """
    for name in names:
        if not getattr(settings, name) >= least:
            raise SettingsError(f"{name} must be at least {least}, got {getattr(settings, name)}")


@dataclass(frozen=True, kw_only=True)
class EcapaSettings(Settings):
    """Sizes of an ECAPA-TDNN; the defaults are for a CPU."""

    ecapa_channels: int = 128
    """Channels of the convolutions, a multiple of 8."""
    ecapa_pooled: int = 384
    """Channels that are pooled over time."""
    ecapa_attention: int = 64
    """Width of the attention that pools, and of the squeeze in each block."""
    embedding_width: int = 96
    """Width of an utterance's embedding."""

    def __post_init__(self) -> None:
        at_least(self, 1, "ecapa_channels", "ecapa_pooled", "ecapa_attention", "embedding_width")
        if self.ecapa_channels % 8:
            raise SettingsError(f"ecapa_channels must be a multiple of 8, got {self.ecapa_channels}")


@dataclass(frozen=True, kw_only=True)
class ConformerSettings(Settings):
    """Sizes of a Conformer; the defaults are those of the authors' DASB for enhancement."""

    conformer_layers: int = 6
    """Blocks of the Conformer."""
    conformer_width: int = 256
    """Width of a frame between the blocks."""
    conformer_heads: int = 4
    """Heads of the attention; the width of each is even."""
    conformer_ffn: int = 2048
    """Inner width of the feed-forward half-steps."""
    conformer_kernel: int = 31
    """Kernel of the depthwise convolutions, frames; odd."""
    conformer_dropout: float = 0.1
    """Share of activations set to 0 after each half-step, attention and convolution."""
    attention_frames: int = 100
    """Frames to each side that a block's attention reaches; what all blocks reach bounds the memory of long inputs."""

    def __post_init__(self) -> None:
        sizes = ("conformer_layers", "conformer_width", "conformer_heads", "conformer_ffn", "conformer_kernel")
        at_least(self, 1, *sizes, "attention_frames")
        if self.conformer_width % (2 * self.conformer_heads):
            raise SettingsError(
                f"conformer_width must be a multiple of twice conformer_heads {self.conformer_heads}, so that each "
                f"head has an even width; got {self.conformer_width}"
            )
        if self.conformer_kernel % 2 == 0:
            raise SettingsError(
                f"conformer_kernel must be odd, so that a convolution has a middle; got {self.conformer_kernel}"
            )
        if not 0 <= self.conformer_dropout < 1:
            raise SettingsError(f"conformer_dropout must be in [0, 1), got {self.conformer_dropout}")

    @property
    def context_frames(self) -> int:
        """Frames to each side that an output depends on, and no more."""
        return self.conformer_layers * (self.attention_frames + self.conformer_kernel // 2)
