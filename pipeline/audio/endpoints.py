"""From probabilities of speech to segments: hysteresis, shortest speech and pause, padding, longest segment.

Pure functions of the probabilities. Cost: a second for a thousand hours.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audio.vad import FRAME, SAMPLE_RATE, VadSettings

_SMOOTHED_FRAMES = 5
"""Frames whose mean says how weak a place is: 160 ms, so that one odd frame within a word is no place to cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechSegment:
    """A stretch of speech, in samples at 16 kHz.

    Attributes:
        start: First sample.
        end: Sample after the last.
    """

    start: int
    end: int


def speech_segments(
    probabilities: npt.NDArray[np.float32], num_samples: int, settings: VadSettings
) -> list[SpeechSegment]:
    """Find the speech of a recording.

    Speech begins at a frame of ``threshold`` and ends before the first frame below ``release`` of a pause of
    ``min_silence_seconds`` in which no frame reaches the threshold again. What is shorter than
    ``min_speech_seconds`` is dropped, the rest padded (two neighbours share a pause too short for both pads) and
    then split until no segment is longer than ``max_segment_seconds``: each time in the second half of the
    longest allowed piece, where the mean probability of 160 ms is lowest, the latest such place.

    Args:
        probabilities: (T,) of frames of 512 samples.
        num_samples: Length of the recording at 16 kHz, in ((T - 1) * 512, T * 512].
        settings: Thresholds and lengths.

    Returns:
        Segments in order, disjoint, inside the recording.
    """
    runs = _runs(probabilities, settings)
    edges = np.minimum(runs * FRAME, num_samples)
    lengths = edges[:, 1] - edges[:, 0]
    edges = edges[lengths >= max(1, round(settings.min_speech_seconds * SAMPLE_RATE))]
    segments: list[SpeechSegment] = []
    for start, end in _pad(edges, num_samples, round(settings.pad_seconds * SAMPLE_RATE)):
        segments += _split(int(start), int(end), probabilities, settings)
    return segments


def _runs(probabilities: npt.NDArray[np.float32], settings: VadSettings) -> npt.NDArray[np.int64]:
    """Give (N, 2) first frame and frame after the last of each run of speech, short pauses bridged."""
    loud, quiet = probabilities >= settings.threshold, probabilities < settings.release
    # A frame between the two thresholds is what the last decided frame before it was, silence at the beginning.
    decided = np.maximum.accumulate(np.where(loud | quiet, np.arange(len(loud)), -1))
    speech = np.where(decided >= 0, loud[decided], False) if len(loud) else loud
    changes = np.flatnonzero(np.diff(np.r_[False, speech, False])).reshape(-1, 2)
    pauses = (changes[1:, 0] - changes[:-1, 1]) * FRAME >= settings.min_silence_seconds * SAMPLE_RATE
    kept = np.r_[True, pauses] if len(changes) else np.zeros(0, bool)
    ends = np.r_[pauses, True] if len(changes) else kept
    return np.stack([changes[kept, 0], changes[ends, 1]], axis=1)


def _pad(edges: npt.NDArray[np.int64], num_samples: int, pad: int) -> npt.NDArray[np.int64]:
    if not len(edges):
        return edges
    middles = (edges[:-1, 1] + edges[1:, 0]) // 2
    starts = np.maximum(edges[:, 0] - pad, np.r_[0, middles])
    ends = np.minimum(edges[:, 1] + pad, np.r_[middles, num_samples])
    return np.stack([starts, ends], axis=1)


def _split(start: int, end: int, probabilities: npt.NDArray[np.float32], settings: VadSettings) -> list[SpeechSegment]:
    longest = int(settings.max_segment_seconds * SAMPLE_RATE)
    shortest = round(settings.min_speech_seconds * SAMPLE_RATE)
    reach = _SMOOTHED_FRAMES // 2
    parts = []
    while end - start > longest:
        # The middles of frames; a cut leaves the rest at least the shortest speech.
        first = -(-(start + longest // 2) // FRAME)
        last = (min(start + longest, end - shortest) - FRAME // 2) // FRAME
        around = np.clip(np.arange(first - reach, last + reach + 1), 0, len(probabilities) - 1)
        weakness = np.convolve(probabilities[around].astype(np.float64), np.ones(_SMOOTHED_FRAMES), mode="valid")
        cut = (last - int(np.argmin(weakness[::-1]))) * FRAME + FRAME // 2
        parts.append(SpeechSegment(start=start, end=cut))
        start = cut
    return [*parts, SpeechSegment(start=start, end=end)]
