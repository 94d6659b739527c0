"""Every utterance spoken and judged, one after the other; the first ones are kept to be listened to."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.flac import flac_bytes, sixteen_bits
from pipeline.cards.plots import can_plot
from pipeline.evaluation.picture import Picture
from pipeline.evaluation.speech.conditions import Speaking, pairs_of
from pipeline.evaluation.speech.kept import KeptRows
from pipeline.evaluation.speech.plots import draw_utterance
from pipeline.evaluation.speech.utterances import JudgedSet
from pipeline.metrics.speech.judge import SAMPLE_RATE, Pair
from pipeline.metrics.speech.rows import Row

logger = logging.getLogger(__name__)

_LOG_SECONDS = 10.0
"""Between two lines of progress."""


@dataclass(kw_only=True)
class Found:
    """What an evaluation gathers.

    Attributes:
        rows: A row per utterance and condition.
        weights: float32 (T, L) of each utterance, from the first set.
        examples: What is heard on the page.
        samples: The same recordings as files, by name.
        pictures: Of the same utterances.
    """

    rows: list[Row] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, bytes] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)

    def keep(
        self,
        number: int,
        about: Mapping[str, Any],
        waveforms: Mapping[str, np.ndarray],
        clock: Clock,
        *,
        weights: np.ndarray | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        """Keep an utterance to be listened to.

        Args:
            number: Its place among those kept.
            about: ``utterance_id``, ``text`` and ``speaker``.
            waveforms: float32 (S,) by condition.
            clock: Frames, at the rate of the waveforms.
            weights: As ``draw_utterance``.
            columns: As ``draw_utterance``.
        """
        recordings = {
            condition: flac_bytes(sixteen_bits(waveform).samples, SAMPLE_RATE)
            for condition, waveform in waveforms.items()
        }
        self.examples.append({**about, "recordings": recordings})
        self.samples |= {sample_name(number, condition): data for condition, data in recordings.items()}
        if can_plot():
            drawn = draw_utterance(number, about["utterance_id"], waveforms, clock, weights=weights, columns=columns)
            self.pictures.append(drawn)


def sample_name(number: int, condition: str) -> str:
    """Give the file of an utterance that is kept, as one condition has it."""
    return f"samples/{condition}/utterance_{number}.flac"


def judge_all(speaking: Speaking, judged: JudgedSet, kept: KeptRows, *, examples: int) -> Found:
    """Speak and judge all utterances.

    Args:
        speaking: Speaks them from every set of layers.
        judged: The utterances.
        kept: Judges them, as far as they are not judged.
        examples: How many are kept to be listened to.

    Raises:
        SettingsError: A speaker is none of the vocoder's.
    """
    found = Found()
    found.rows += kept.judge(_spoken(speaking, judged, found, examples))
    return found


def _spoken(speaking: Speaking, judged: JudgedSet, found: Found, examples: int) -> Iterator[Pair]:
    """Give the pairs of all utterances, and keep what is to be kept of each."""
    told = time.monotonic()
    for number, each in enumerate(judged.heard()):
        spoken = speaking(each)
        if spoken.weights is not None:
            found.weights.append(spoken.weights)
        if number < examples:
            piece = each.piece
            about = {
                "utterance_id": piece.utterance_id,
                "text": piece.labels["text"],
                "speaker": piece.labels["speaker"],
            }
            found.keep(number, about, spoken.waveforms, judged.clock, weights=spoken.weights, columns=speaking.columns)
        yield from pairs_of(spoken)
        if time.monotonic() - told > _LOG_SECONDS:
            told = time.monotonic()
            logger.info("judged %d of %d utterances", number + 1, len(judged.pieces))
