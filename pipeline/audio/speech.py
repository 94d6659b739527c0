"""Turns the manifest row of a recording into rows of the speech in it.

Memory: 20 s of audio, and one probability for every 32 ms of the recording.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.decode import Decoder, to_float32
from pipeline.audio.endpoints import speech_segments
from pipeline.audio.places import Place
from pipeline.audio.segments import segment_id
from pipeline.audio.vad import SAMPLE_RATE, SpeechDetector, VadSettings
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason


@dataclass(frozen=True, kw_only=True)
class SpeechFinder:
    """Cuts recordings into utterances of speech.

    Attributes:
        decoder: Reads recordings at 16 kHz.
        detector: Gives probabilities of speech.
        settings: When they become a segment.
    """

    decoder: Decoder
    detector: SpeechDetector
    settings: VadSettings

    def rows(self, row: Mapping[str, Any], passed_over: PassedOver) -> list[dict[str, Any]]:
        """Give a manifest row for every stretch of speech in the one given.

        Args:
            row: A row of the manifest: a recording, a segment or one channel of it. Its text and ``clean_uri`` belong
                to the whole and go; its other labels stay.
            passed_over: Counts texts that go, and what decoding passes over.

        Raises:
            AudioDecodeError: The recording cannot be read to its end, or nobody speaks in it.
            StorageError: S3 failed; the recording may be fine.
        """
        heard = 0

        def blocks() -> Iterator[npt.NDArray[np.float32]]:
            nonlocal heard
            for block in self._blocks(row, passed_over):
                heard += len(block)
                yield block

        probabilities = self.detector.probabilities(blocks())
        segments = speech_segments(probabilities, heard, self.settings)
        if not segments:
            loudest = float(probabilities.max(initial=0.0))
            raise AudioDecodeError(
                Reason.NO_SPEECH,
                f"no speech of {self.settings.min_speech_seconds:g} s in {heard / SAMPLE_RATE:.1f} s; the highest "
                f"probability is {loudest:.2f}, the threshold {self.settings.threshold:g}",
            )
        if row["text"] is not None or row["clean_uri"] is not None:
            passed_over.add(Kind.RECORDING_LABELS, example=row["utterance_id"])
        return [self._row(row, segment.start, segment.end) for segment in segments]

    def _blocks(self, row: Mapping[str, Any], passed_over: PassedOver) -> Iterator[npt.NDArray[np.float32]]:
        stream = self.decoder.stream(
            row["uri"],
            offset_samples=row["offset_samples"],
            num_samples=row["num_samples"],
            sample_rate=row["sample_rate"],
            channel=row["channel"],
            utterance_id=row["utterance_id"],
            part=Place.of(row),
            passed_over=passed_over,
        )
        return map(to_float32, stream)

    def _row(self, row: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
        """Give the row of a segment, whose edges are samples at 16 kHz from the start of the row."""
        rate = row["sample_rate"]
        first, stop = (
            min((2 * edge * rate + SAMPLE_RATE) // (2 * SAMPLE_RATE), row["num_samples"]) for edge in (start, end)
        )
        offset = row["offset_samples"] + first
        return {
            **row,
            "utterance_id": segment_id(row["utterance_id"], offset / rate, (offset + stop - first) / rate),
            "offset_samples": offset,
            "num_samples": stop - first,
            "text": None,
            "clean_uri": None,
        }
