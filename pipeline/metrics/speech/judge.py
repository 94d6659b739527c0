"""What a judge of speech is: it hears one utterance, mostly beside its reference, and gives a figure per measure.

Judges know no model and no dataset. They judge resynthesis, enhancement and text to speech alike, from waveforms at
16 kHz and a transcript. One that cannot judge an utterance says why, and the figure is a null that is counted; nothing
is replaced by a worst or a mean value.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from pipeline.metrics.error_rates import ErrorCounts

SAMPLE_RATE = 16_000
"""Rate of every waveform that is judged, Hz."""

Waveform = npt.NDArray[np.float32]


class Reason(StrEnum):
    """Why an utterance has no figure of a measure."""

    NO_REFERENCE = "no_reference"
    NO_TEXT = "no_text"
    SILENT = "silent"
    TOO_SHORT = "too_short"
    LENGTHS_DIFFER = "lengths_differ"
    NOT_VOICED = "not_voiced"
    CONSTANT_PITCH = "constant_pitch"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure that a judge gives.

    Attributes:
        name: Of its column.
        unit: As ``dB``; empty for a plain number.
        higher_is_better: Whether more of it is better.
        counted: Whether it is a rate of errors over a length, so that a set has the rate of its sums and no mean.
    """

    name: str
    unit: str
    higher_is_better: bool
    counted: bool = False


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One utterance to judge.

    Attributes:
        utterance_id: Of the utterance.
        condition: What made ``generated``: a model, a set of layers, ``original``.
        generated: The waveform judged, float32 (S,) in [-1, 1] at 16 kHz.
        reference: The same utterance as it should be; None where there is none.
        text: What is said in it; None where nobody knows.
    """

    utterance_id: str
    condition: str
    generated: Waveform
    reference: Waveform | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a judge says of one utterance.

    Attributes:
        values: By name of the measure: a figure, or the errors of a counted one.
        absent: Why a measure of the judge has no value.
        texts: What the judge heard, for a reader.
    """

    values: Mapping[str, float | ErrorCounts]
    absent: Mapping[str, Reason] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Library:
    """Where the figures of a judge come from, for the record of a run.

    Attributes:
        name: Distribution, as pip knows it.
        version: Installed.
        weights_sha256: Of the network's file; None where there is no network.
    """

    name: str
    version: str
    weights_sha256: str | None = None


class Judge(ABC):
    """Judges one utterance after the other.

    Attributes:
        name: By which it is asked for.
        measures: What it gives.
        texts: Names of the texts that it gives, as ``hypothesis``.
        needs_reference: Whether it compares; what it is given is then as long as its reference.
        same_times: Whether what it compares must be said at the same times; one that hears the voice alone judges
            speech of any length beside its reference.
        library: Of whom the figures are; None where they are computed here alone.
    """

    name: str
    measures: tuple[Measure, ...]
    texts: tuple[str, ...] = ()
    needs_reference: bool = True
    same_times: bool = True
    library: Library | None = None

    @abstractmethod
    def score(self, pair: Pair) -> Score:
        """Judge one utterance.

        Args:
            pair: It has what the judge needs; its waveforms are equally long where the judge compares.

        Raises:
            UnjudgedError: None of its measures can be given; ``reason`` says why.
        """
