"""One recording by way of its tokens: tokenised, spoken and written, without Ray."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import SAMPLE_RATE
from pipeline.synthesis.recording import local_target, read_recording
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.speakers import check_reference
from pipeline.synthesis.spoken_file import SpokenFile, write_spoken
from pipeline.tokenizer import Tokenizer
from pipeline.vocoder.speaker_vectors import silent_reference
from pipeline.work.runtime import kept_threads

Between = Callable[[Mapping[int, np.ndarray]], Mapping[int, np.ndarray]]
"""Gives tokens (T,), or (T, Q) with residual stages, by layer from others."""


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
    return write_spoken(
        target, waveform, sample_rate=voice.sample_rate, hop_length=voice.hop_length, layers=layers, took=took
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
