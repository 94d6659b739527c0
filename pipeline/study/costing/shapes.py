"""What an estimate is told of tokens before there are any, and what a step of training costs. Loads no torch."""

from dataclasses import dataclass

from pipeline.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class TokenShape:
    """Tokens (or features) and labels as a task will meet them.

    Attributes:
        layers: Layers of the encoder that are fused, or spoken.
        num_clusters: K of each.
        dim: Width of centroids or features (D).
        vocabulary: Symbols of asr (with the blank) and tts (with the text's end), classes of sid and er; others have
            none.
        utterance_seconds: Length of an utterance, seconds, where it is not cropped.
        symbols_per_second: Length of its text for tts, symbols.
        speakers: Speakers that tts or the vocoder is told of.
        sample_rate: Of the encoder, Hz.
        hop_length: Samples per frame.

    Raises:
        SettingsError: A size is not above 0.
    """

    layers: tuple[int, ...]
    num_clusters: int
    dim: int
    vocabulary: int = 0
    utterance_seconds: float = 10.0
    symbols_per_second: float = 15.0
    speakers: int = 0
    sample_rate: int = 16_000
    hop_length: int = 320

    def __post_init__(self) -> None:
        if not self.layers:
            raise SettingsError("an estimate needs layers; got none")
        names = ("num_clusters", "dim", "utterance_seconds", "symbols_per_second", "sample_rate", "hop_length")
        for name in names:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def frames_per_second(self) -> float:
        """Frames of a second of audio."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Arithmetic of a network, in floating point operations; a multiply-add is 2.

    Attributes:
        parameters: That are trained, those of discriminators too.
        saved_parameters: That the finished folder holds.
        audio_seconds: Audio of one step.
        forward: Of a second of audio that is evaluated.
        training: Of a second of audio that is trained on, backward passes and discriminators included.
    """

    parameters: int
    saved_parameters: int
    audio_seconds: float
    forward: float
    training: float

    @property
    def training_factor(self) -> float:
        """How many forward passes a second of training costs."""
        return self.training / self.forward

    @property
    def step(self) -> float:
        """Operations of one step."""
        return self.training * self.audio_seconds
