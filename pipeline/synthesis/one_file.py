"""One recording by way of its tokens: tokenised, spoken and written, without Ray."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.flac import sixteen_bits
from pipeline.errors import SettingsError
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.tokenizer import Tokenizer
from pipeline.work.runtime import kept_threads

LONGEST_SECONDS = 3600.0
"""Longest recording that is spoken: its samples lie in memory."""
_FORMATS = (".wav", ".flac")


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
    assert config.file is not None
    assert config.tokenizer is not None
    if config.output.startswith("s3://"):
        raise SettingsError(f"--output of --file is a local recording, got {config.output}")
    target = Path(config.output)
    if target.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--output of --file ends in {' or '.join(_FORMATS)}, got {target.name}")
    if not target.parent.is_dir():
        raise SettingsError(f"the folder {target.parent} of --output is not there; make it first")
    with kept_threads(config.threads_per_worker):
        voice = Tokenizer.from_pretrained(config.tokenizer, vocoder=config.vocoder, threads=config.threads_per_worker)
        layers = voice.choose_layers(config.layers)
        began = time.perf_counter()
        tokens = voice.encode(_heard(config.file, voice.sample_rate), voice.sample_rate)
        waveform = voice.decode(tokens, layers=layers, speaker=config.speaker)
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


def _heard(file: str, sample_rate: int) -> np.ndarray:
    """Read a recording as every job does, in the decode process: float32 (S,), the mean of its channels."""
    with Decoder(sample_rate=sample_rate, limits=DecodeLimits(max_seconds=LONGEST_SECONDS)) as decoder:
        found = decoder.probe(file)
        stretches = decoder.stream(
            file,
            offset_samples=0,
            num_samples=found.num_samples,
            sample_rate=found.sample_rate,
            channel=None,
            utterance_id=file,
        )
        parts = [to_float32(part) for part in stretches]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
