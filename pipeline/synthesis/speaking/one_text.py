"""One text spoken and written as a recording, without Ray."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import soundfile

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import SettingsError
from pipeline.synthesis.recording import local_target
from pipeline.synthesis.speaking.makers import TextSpeaker
from pipeline.synthesis.speaking.parts import open_parts
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.texts import Text
from pipeline.tasks.tts.reading import Problem
from pipeline.work.runtime import kept_threads


@dataclass(frozen=True, kw_only=True)
class SpokenText:
    """What was done with one text.

    Attributes:
        output: The recording that was written.
        text: The text.
        num_frames: Frames of tokens.
        seconds: Of speech.
        clipped_samples: Samples that passed full scale and were cut to it.
        times_real_time: Seconds of speech per second in which tts and vocoder worked.
    """

    output: str
    text: str
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
            ("text", self.text),
            ("speech", f"{self.seconds:.2f} s, {self.num_frames} frames"),
            ("clipped", f"{self.clipped_samples} samples"),
            ("times real time", f"{self.times_real_time:.1f}"),
        ]


def speak_text(config: SpeakConfig) -> SpokenText:
    """Speak a text and write it: 16 bits, the vocoder's rate.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens than the tts writes.
        DatasetError: There is no finished tts.
        SettingsError: A path or a setting does not fit, or the text cannot be spoken.
    """
    assert config.text is not None
    target = local_target(config.output, "text")
    parts = open_parts(config)
    # A line of a file and the text alone have other draws only where their ids differ.
    text = Text(utterance_id="text", text=config.text.strip())
    with kept_threads(config.threads_per_worker):
        speaker = TextSpeaker(parts, config, "cpu")
        began = time.perf_counter()
        found = speaker.write([text], _refuse)
        ((_, waveform),) = speaker.voice.speak([each.said for each in found], parts.columns)
        took = time.perf_counter() - began
    recording = sixteen_bits(waveform)
    rate = parts.saved.spec.sample_rate
    soundfile.write(target, recording.samples, rate, subtype="PCM_16")
    seconds = len(waveform) / rate
    return SpokenText(
        output=str(target),
        text=text.text,
        num_frames=len(waveform) // parts.saved.spec.hop_length,
        seconds=seconds,
        clipped_samples=recording.clipped,
        times_real_time=seconds / took,
    )


def _refuse(text: Text, problem: Problem) -> None:
    raise SettingsError(f"--text cannot be spoken: {problem[1]}")
