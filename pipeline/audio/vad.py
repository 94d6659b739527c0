"""Voice activity: how likely it is, every 32 ms of a recording, that somebody speaks, from Silero's network.

The network comes with the extra ``vad`` (the package silero-vad, of which only the ONNX file is read). Its state is
carried from block to block. Memory: one block of audio and 125 bytes a second of recording.
Cost: 370 times faster than real time on one core of a virtual machine; the package's frame by frame: 67.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SettingsError

SAMPLE_RATE = 16_000
"""Rate that the network hears, Hz."""
FRAME = 512
"""Samples that one probability stands for: 32 ms."""

ALGORITHM_VERSION = 1
"""Goes up when the same recording and settings would give other segments."""

_CONTEXT = 64
_WIDTH = 128
_WEIGHTS = "silero_vad_16k_sequence.onnx"
# Below the threshold by this much, speech is over: Silero's own distance.
_HYSTERESIS = 0.15
_LOWEST_RELEASE = 0.01


@dataclass(frozen=True, kw_only=True)
class VadSettings:
    """When probabilities of speech become a segment."""

    threshold: float = 0.5
    """Probability from which a frame of 32 ms begins speech, above 0 and below 1."""
    min_speech_seconds: float = 0.25
    """Shortest speech that is kept, before padding, seconds."""
    min_silence_seconds: float = 0.5
    """Shortest pause that ends a segment, seconds."""
    pad_seconds: float = 0.1
    """Audio kept before and after speech, seconds; half the pause where that is less."""
    max_segment_seconds: float = 30.0
    """Longest segment, padding included, seconds; longer speech is split where it is least likely speech."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise SettingsError(f"vad_threshold must be above 0 and below 1, got {self.threshold}")
        for name in ("min_speech_seconds", "min_silence_seconds", "pad_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(f"vad_{name} must be finite and at least 0, got {getattr(self, name)}")
        if not max(1.0, 4 * self.min_speech_seconds) <= self.max_segment_seconds < float("inf"):
            raise SettingsError(
                "vad_max_segment_seconds must be at least 1 and four times vad_min_speech_seconds, got "
                f"{self.max_segment_seconds}"
            )

    @property
    def release(self) -> float:
        """Probability below which a frame counts as silence after speech."""
        return max(self.threshold - _HYSTERESIS, min(self.threshold, _LOWEST_RELEASE))

    def content(self) -> dict[str, Any]:
        """Say what the segments depend on, for a content key.

        Raises:
            SettingsError: The weights are not installed.
        """
        return {**asdict(self), "weights_sha256": weights_sha256(), "algorithm": ALGORITHM_VERSION}


def weights_path() -> Path:
    """Find the file of the network without importing the package, which would load torch and set its threads.

    Raises:
        SettingsError: The extra ``vad`` is not installed, or its release has no such file.
    """
    package = find_spec("silero_vad")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "data" / _WEIGHTS
        if path.is_file() and find_spec("onnxruntime"):
            return path
    raise SettingsError(
        f"vad silero needs onnxruntime, and {_WEIGHTS} of silero-vad 6.2.3 or later: "
        "install the extra on every node: pip install 'strata-tokens[vad]'"
    )


def weights_sha256() -> str:
    """Hash the file of the network.

    Raises:
        SettingsError: The extra ``vad`` is not installed.
    """
    return _hash(weights_path())


@cache
def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SpeechDetector:
    """Silero's network at 16 kHz: one probability of speech for every 512 samples.

    Source: Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", v6,
    https://github.com/snakers4/silero-vad (MIT).

    Raises:
        SettingsError: The extra ``vad`` is not installed.
    """

    def __init__(self) -> None:
        path = weights_path()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def probabilities(self, blocks: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Listen to one recording from its start to its end.

        Args:
            blocks: The waveform in pieces of any length, float32 (S,) at 16 kHz, in order.

        Returns:
            (T,) float32 in [0, 1], T = ceil(samples / 512); frame t stands for the samples from 512 t on. The last
            frame is filled up with zeros. They do not depend on how the waveform is cut into blocks.
        """
        found: list[npt.NDArray[np.float32]] = []
        heard = np.zeros(_CONTEXT, np.float32)
        hidden = cell = np.zeros((1, 1, _WIDTH), np.float32)
        for block in _whole_frames(blocks):
            waveform = np.concatenate([heard, block])
            heard = waveform[-_CONTEXT:]
            frames = np.lib.stride_tricks.sliding_window_view(waveform, _CONTEXT + FRAME)[::FRAME]
            inputs = {"input": np.ascontiguousarray(frames), "h": hidden, "c": cell}
            values, hidden, cell = self._session.run(["speech_probs", "hn", "cn"], inputs)
            found.append(values.reshape(-1))
        return np.concatenate(found) if found else np.zeros(0, np.float32)


def _whole_frames(blocks: Iterable[npt.NDArray[np.float32]]) -> Iterable[npt.NDArray[np.float32]]:
    """Cut a waveform again so that every block holds up to 500 whole frames, the last filled up with zeros."""
    most = 500 * FRAME
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // FRAME * FRAME
        for start in range(0, whole, most):
            yield rest[start : min(start + most, whole)]
        rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME - len(rest)))
