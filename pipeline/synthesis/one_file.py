"""One recording by way of its tokens: tokenised, spoken and written, without Ray."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import SAMPLE_RATE
from pipeline.synthesis.recording import local_target, read_recording
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.speakers import check_reference
from pipeline.tokenizer import Tokenizer
from pipeline.vocoder.speaker_vectors import silent_reference
from pipeline.work.runtime import kept_threads

Between = Callable[[Mapping[int, np.ndarray]], Mapping[int, np.ndarray]]
"""Gives tokens (T,), or (T, Q) with residual stages, by layer from others."""


@dataclass(frozen=True, kw_only=True)
class SpokenFile:
    """What was done with one recording.

    Attributes:
        output: The recording that was written.
        layers: Layers that it was spoken from.
        num_frames: Frames of tokens.
        seconds: Of speech.
        clipped_samples: Samples that passed full scale and were cut to it.
        times_real_time: Seconds of speech per second in which tokenizer and vocoder worked.
    """

    output: str
    layers: tuple[int, ...]
    num_frames: int
    seconds: float
    clipped_samples: int
    times_real_time: float
    stage: str = "spoken file"

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give label and value pairs for a person."""
        return [
            ("written", self.output),
            ("layers", " ".join(map(str, self.layers))),
            ("speech", f"{self.seconds:.2f} s, {self.num_frames} frames"),
            ("clipped", f"{self.clipped_samples} samples"),
            ("times real time", f"{self.times_real_time:.1f}"),
        ]


def speak_file(config: SynthesizeConfig) -> SpokenFile:
    """Tokenise a recording of at most an hour, speak its tokens and write them: 16 bits, the vocoder's rate.

    Raises:
        AudioDecodeError: The recording cannot be read, or is too long.
        FeatureError: It is too short for one frame.
        CodebookMismatchError: Tokenizer and vocoder do not belong together.
        SettingsError: A path or a setting does not fit.
    """
    assert config.tokenizer is not None
    target = check_target(config)
    with kept_threads(config.threads_per_worker):
        voice = Tokenizer.from_pretrained(config.tokenizer, vocoder=config.vocoder, threads=config.threads_per_worker)
        return say_file(config, target, voice, lambda tokens: tokens)


def check_target(config: SynthesizeConfig) -> Path:
    """Give the recording to write, and refuse one that cannot be written or would replace what is read.

    Raises:
        SettingsError: So it is.
    """
    target = local_target(config.output, "file")
    for name in ("file", "speaker_reference"):
        source = getattr(config, name)
        if source is not None and Path(source).exists() and target.exists() and target.samefile(source):
            raise SettingsError(f"--output would replace the recording of --{name.replace('_', '-')}: {source}")
    return target


def say_file(config: SynthesizeConfig, target: Path, voice: Tokenizer, between: Between) -> SpokenFile:
    """Tokenise a recording, do something with its tokens, speak what that gives and write it; see ``speak_file``.

    Args:
        config: Names the recording, its layers and its speaker.
        target: Where to write.
        voice: Tokenises and speaks.
        between: Gives the tokens to speak by layer, from those of the recording.
    """
    assert config.file is not None
    layers = voice.choose_layers(config.layers)
    began = time.perf_counter()
    heard = read_recording(config.file, voice.sample_rate)
    speaker = _speaker(config, voice, heard)
    tokens = between(voice.encode(heard, voice.sample_rate))
    waveform = voice.decode(tokens, layers=layers, speaker=speaker, durations=config.speaking.durations)
    took = time.perf_counter() - began
    recording = sixteen_bits(waveform)
    soundfile.write(target, recording.samples, voice.sample_rate, subtype="PCM_16")
    seconds = len(waveform) / voice.sample_rate
    return SpokenFile(
        output=str(target),
        layers=layers,
        num_frames=len(waveform) // voice.hop_length,
        seconds=seconds,
        clipped_samples=recording.clipped,
        times_real_time=seconds / took,
    )


def _speaker(config: SynthesizeConfig, voice: Tokenizer, heard: np.ndarray) -> str | np.ndarray | None:
    """Say who speaks: who was asked for, or who speaks the recording itself where the vocoder can be told."""
    assert voice.vocoder is not None
    check_reference(config, voice.vocoder)
    if config.speaker_reference is not None:
        vector = voice.speaker_vector(read_recording(config.speaker_reference, SAMPLE_RATE), SAMPLE_RATE)
        if not vector.any():
            raise SettingsError(silent_reference(config.speaker_reference))
        return vector
    if config.speaker is None and voice.vocoder.settings.speaker_input == "vector":
        return voice.speaker_vector(heard, voice.sample_rate)
    return config.speaker
