"""Settings of speech recognition; loads no torch."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.tasks.blocks.settings import at_least

Units = Literal["characters", "bpe", "phones"]
Normalization = Literal["upper", "lower", "none", "english"]


@dataclass(frozen=True, kw_only=True)
class AsrSettings(Settings):
    """Sizes of the recogniser; the defaults are for a CPU."""

    lstm_layers: int = 2
    """Bidirectional layers."""
    lstm_width: int = 192
    """Width of each direction."""
    dropout: float = 0.2
    """Share of activations set to 0 between layers and before the output."""

    def __post_init__(self) -> None:
        at_least(self, 1, "lstm_layers", "lstm_width")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """What transcripts are made of."""

    units: Units = "characters"
    """What texts are made of: characters; for asr also the pieces of a BPE trained on the training transcripts; for tts
    also phones (extra phones)."""
    phone_language: str = "en-us"
    """Language of espeak-ng by which units phones spells texts."""
    vocab_size: int = 500
    """Pieces of the BPE at most, its characters and the blank among them."""
    alphabet: str | None = None
    """Characters that are recognised, with the space; default: those of the training transcripts."""
    text_normalization: Normalization = "upper"
    """What is done to references and hypotheses alike: upper or lower case, none, or whisper's english rules. Spaces
    are always single and Unicode composed."""
    unknown: Literal["error", "drop"] = "error"
    """What a character outside the alphabet does: end the run before training, or be left out of its transcript."""

    def __post_init__(self) -> None:
        at_least(self, 2, "vocab_size")
        choices = {
            "units": ("characters", "bpe", "phones"),
            "text_normalization": ("upper", "lower", "none", "english"),
            "unknown": ("error", "drop"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.units == "phones" and self.text_normalization not in ("lower", "none"):
            raise SettingsError(
                "units phones needs text_normalization lower or none: espeak-ng spells some words in capitals, as IT, "
                f"letter by letter; got {self.text_normalization}"
            )
        if self.phone_language != "en-us" and self.units != "phones":
            raise SettingsError("phone_language has no effect without units phones")
        if self.alphabet is not None and not self.alphabet.strip():
            raise SettingsError("alphabet has no character; leave it out to take those of the training transcripts")


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(Settings):
    """How transcripts are found in the recogniser's output."""

    beam_width: int = 1
    """Hypotheses kept while decoding; 1 is greedy decoding."""
    language_model: str | None = None
    """Word language model, a local ARPA or KenLM file; needs a beam, and words spelt as the transcripts are."""
    lm_weight: float = 0.8
    """Weight of the language model's log-probability."""
    word_bonus: float = 1.2
    """Added to the score per word."""
    beam_prune: float = 12.0
    """Hypotheses that are so much less likely than the best are dropped, nats."""
    token_prune: float = 5.0
    """Symbols so unlikely in a frame are not tried, nats below certainty."""

    def __post_init__(self) -> None:
        at_least(self, 1, "beam_width")
        for name in ("beam_prune", "token_prune"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.language_model is not None and self.beam_width == 1:
            raise SettingsError("language_model needs a beam: beam_width must be at least 2, got 1")
