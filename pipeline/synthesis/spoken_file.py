"""One recording that was spoken: written as a file, and what is told of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.audio.flac import sixteen_bits


@dataclass(frozen=True, kw_only=True)
class SpokenFile:
    """What was done with one recording, or with one text.

    Attributes:
        output: The recording that was written.
        text: What it says, where it was spoken from a text.
        layers: Layers that it was spoken from.
        num_frames: Frames of tokens.
        seconds: Of speech.
        clipped_samples: Samples that passed full scale and were cut to it.
        times_real_time: Seconds of speech per second in which what makes tokens and the vocoder worked.
    """

    output: str
    text: str | None
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
            *([] if self.text is None else [("text", self.text)]),
            ("layers", " ".join(map(str, self.layers))),
            ("speech", f"{self.seconds:.2f} s, {self.num_frames} frames"),
            ("clipped", f"{self.clipped_samples} samples"),
            ("times real time", f"{self.times_real_time:.1f}"),
        ]


def write_spoken(
    target: Path,
    waveform: np.ndarray,
    *,
    sample_rate: int,
    hop_length: int,
    layers: Sequence[int],
    took: float,
    text: str | None = None,
) -> SpokenFile:
    """Write a waveform with 16 bits, and say what was done.

    Args:
        target: The recording.
        waveform: float32 (S,).
        sample_rate: Its rate, Hz.
        hop_length: Samples per frame.
        layers: Layers that it was spoken from.
        took: Seconds that it took.
        text: What it says, where it was spoken from a text.
    """
    recording = sixteen_bits(waveform)
    soundfile.write(target, recording.samples, sample_rate, subtype="PCM_16")
    seconds = len(waveform) / sample_rate
    return SpokenFile(
        output=str(target),
        text=text,
        layers=tuple(layers),
        num_frames=len(waveform) // hop_length,
        seconds=seconds,
        clipped_samples=recording.clipped,
        times_real_time=seconds / took,
    )
