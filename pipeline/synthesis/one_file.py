"""One recording by way of its tokens: tokenised, spoken and written, without Ray."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import SettingsError
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.tokenizer import Tokenizer
from pipeline.work.runtime import kept_threads

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
    """Tokenise a recording, speak its tokens and write them: 16 bits, the vocoder's rate.

    Raises:
        AudioDecodeError: The recording cannot be read.
        CodebookMismatchError: Tokenizer and vocoder do not belong together.
        SettingsError: A path or a setting does not fit.
    """
    assert config.file is not None
    assert config.tokenizer is not None
    target = Path(config.output)
    if target.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--output of --file ends in {' or '.join(_FORMATS)}, got {target.name}")
    if not target.parent.is_dir():
        raise SettingsError(f"the folder {target.parent} of --output is not there; make it first")
    try:
        samples, rate = soundfile.read(config.file, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise SettingsError(f"{config.file} cannot be read as audio: {error}") from error
    with kept_threads(config.threads_per_worker):
        voice = Tokenizer.from_pretrained(config.tokenizer, vocoder=config.vocoder, threads=config.threads_per_worker)
        began = time.perf_counter()
        layers = voice.choose_layers(config.layers)
        tokens = voice.encode(samples.mean(axis=1), rate)
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
