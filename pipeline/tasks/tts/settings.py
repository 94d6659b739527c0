"""Settings of text to speech on tokens; loads no torch."""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.tasks.blocks.settings import at_least

StreamPattern = Literal["parallel", "delay"]
SpeakerInput = Literal["none", "table"]


@dataclass(frozen=True, kw_only=True)
class TtsSettings(Settings):
    """The network of text to speech and its losses; the sizes are for a CPU."""

    text_layers: int = 3
    """Transformer layers that read the text."""
    token_layers: int = 4
    """Transformer layers that write the tokens."""
    tts_width: int = 192
    """Width of both, a multiple of twice the heads."""
    tts_heads: int = 4
    """Heads of each attention."""
    tts_ffn: int = 768
    """Hidden width of the feed-forward layers."""
    tts_dropout: float = 0.1
    """Share of activations set to 0 in training."""
    target_dropout: float = 0.2
    """Share of what is told of the frame before that is set to 0 in training, so that the text is listened to."""
    hidden_frames: float = 0.0
    """Share of the frames before that are hidden whole in training, each drawn by itself, so that less is learned by
    heart."""
    text_dropout: float = 0.0
    """Share of texts that are hidden whole in training, so that the network knows speech without a text too, and
    guidance can tell what a text adds."""
    stream_pattern: StreamPattern = "parallel"
    """Order of a frame's layers: all in one step (parallel), or layer l in the l-th step after the first (delay)."""
    speaker_input: SpeakerInput = "none"
    """Who speaks: nothing is said (none), or a learned vector per speaker of the manifest's column (table)."""
    guided_weight: float = 1.0
    """Weight of the loss that keeps the attention to the text near the diagonal; 0: none."""
    guided_sigma: float = 0.2
    """Width of that diagonal, as a share of the text."""
    stop_weight: float = 0.5
    """Weight of the loss of the stop decision."""
    stop_positive: float = 5.0
    """Weight of the last frame in that loss, where each other frame has 1."""

    def __post_init__(self) -> None:
        at_least(self, 1, "text_layers", "token_layers", "tts_width", "tts_heads", "tts_ffn")
        if self.tts_width % (2 * self.tts_heads):
            raise SettingsError(
                f"tts_width must be a multiple of twice tts_heads, as heads turn pairs of values by their place; got "
                f"{self.tts_width} and {self.tts_heads}"
            )
        for name in ("tts_dropout", "target_dropout", "hidden_frames", "text_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        at_least(self, 0, "guided_weight", "stop_weight")
        for name in ("guided_sigma", "stop_positive"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        for name, allowed in {"stream_pattern": ("parallel", "delay"), "speaker_input": ("none", "table")}.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be {' or '.join(allowed)}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Settings):
    """How tokens are written for a text."""

    temperature: float = 1.0
    """What logits are divided by before a token is drawn; 0 takes the likeliest token."""
    top_p: float = 0.95
    """Tokens are drawn from the likeliest ones that together have this probability."""
    guidance: float = 1.0
    """How far tokens are drawn to what the text asks for, away from what is likely without it; 1: not at all. More
    needs a tts that was trained with text_dropout, and about twice the time."""
    seed: int = 0
    """Seed of the draws; each utterance has draws of its own, whatever is spoken beside it."""
    max_seconds: float | None = None
    """Speech of a text at most, seconds; default: 2 s and three times what texts of its length last in training, and at
    most 60 s."""
    texts_per_batch: int = 16
    """Texts that are spoken at once, of about equal length."""

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature")
        if not (self.guidance >= 1 and isfinite(self.guidance)):
            raise SettingsError(f"guidance must be at least 1, and a number; got {self.guidance}")
        at_least(self, 1, "texts_per_batch")
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise SettingsError(f"max_seconds must be above 0, got {self.max_seconds}")


_SINCE = ("text_dropout", "guidance")
"""Settings that came later: a content key holds them where they are not the default, so older folders stay valid."""


def told_settings(settings: TtsSettings | GenerationSettings) -> dict[str, Any]:
    """Give settings as a content key holds them."""
    default = {field.name: field.default for field in fields(settings)}
    return {name: value for name, value in asdict(settings).items() if name not in _SINCE or value != default[name]}


def check_guidance(settings: GenerationSettings, text_dropout: float) -> None:
    """Refuse guidance of a network that never wrote without a text.

    Args:
        settings: How tokens are to be written.
        text_dropout: With which it was trained.

    Raises:
        SettingsError: It did not.
    """
    if settings.guidance != 1 and not text_dropout:
        raise SettingsError(
            f"guidance {settings.guidance:g} needs a tts that was trained with --text-dropout, as 0.1; this one was "
            "trained without; take --guidance 1"
        )
