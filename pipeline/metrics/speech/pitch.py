"""Pitch: how far the fundamental frequencies are apart, and where one is voiced and the other is not.

F0 is tracked by SwiftF0, 16 ms per frame, between 50 and 600 Hz; a frame is voiced from a confidence of 0.5 on. Error
and correlation are over the frames that both have voiced; an octave error counts in them, so read them beside the share
of gross errors. The voicing error is the share of all frames of which one is voiced alone.

Source: Nieradzik 2025, SwiftF0 (arXiv 2508.18440), package swift-f0 (MIT); Chu and Alwan 2009, Reducing F0 frame error
of F0 tracking algorithms under noisy conditions, for voicing decision error and gross pitch error.
"""

import numpy as np

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Reason, Score, Waveform
from pipeline.metrics.speech.levels import check_audible
from pipeline.metrics.speech.libraries import library
from pipeline.metrics.speech.spectra import Array

LOWEST_HERTZ, HIGHEST_HERTZ = 50.0, 600.0
VOICED = 0.5
"""Confidence from which a frame is voiced, as the tracker is calibrated."""
GROSS = 0.2
"""Part of the reference's pitch by which a gross error is off."""
LEAST_VOICED = 10
"""Fewest frames voiced in both that pitch is judged on: 160 ms."""
LEAST_SECONDS = 0.2
_STEADY = 1e-3


class PitchTracker:
    """Gives F0 of a waveform.

    Raises:
        SettingsError: swift-f0 is not installed.
    """

    def __init__(self) -> None:
        self.library = library("swift-f0", who="the judge pitch", weights="swift_f0/model.onnx")
        from swift_f0 import SwiftF0

        self._tracker = SwiftF0(threads=1)

    def __call__(self, waveform: Waveform) -> Array:
        """Give F0 per frame, Hz, 0 where it is not voiced: (S // 256,), one at least."""
        found = self._tracker.detect(waveform, SAMPLE_RATE, fmin=LOWEST_HERTZ, fmax=HIGHEST_HERTZ)
        return np.where(found.confidence >= VOICED, found.pitch_hz, 0.0)


class Pitch(Judge):
    """Judges by F0.

    Raises:
        SettingsError: swift-f0 is not installed.
    """

    name = "pitch"
    measures = (
        Measure(name="f0_rmse", unit="Hz", higher_is_better=False),
        Measure(name="f0_rmse_cents", unit="cents", higher_is_better=False),
        Measure(name="f0_correlation", unit="", higher_is_better=True),
        Measure(name="f0_gross_error", unit="", higher_is_better=False),
        Measure(name="voicing_error", unit="", higher_is_better=False),
    )

    def __init__(self) -> None:
        self._track = PitchTracker()
        self.library = self._track.library

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.reference is not None
        check_audible(pair.reference, least_seconds=LEAST_SECONDS, what="the reference")
        return compare_pitch(self._track(pair.reference), self._track(pair.generated))


def compare_pitch(said_T: Array, made_T: Array) -> Score:
    """Compare two tracks, Hz per frame and 0 where unvoiced.

    Raises:
        UnjudgedError: The reference is voiced nowhere.
    """
    if not (said_T > 0).any():
        raise UnjudgedError(Reason.NOT_VOICED, "the reference has no voiced frame")
    voicing = float(((said_T > 0) != (made_T > 0)).mean())
    both_T = (said_T > 0) & (made_T > 0)
    if both_T.sum() < LEAST_VOICED:
        absent = {measure.name: Reason.NOT_VOICED for measure in Pitch.measures if measure.name != "voicing_error"}
        return Score(values={"voicing_error": voicing}, absent=absent)
    said, made = said_T[both_T], made_T[both_T]
    values = {
        "f0_rmse": float(np.sqrt(np.mean((said - made) ** 2))),
        "f0_rmse_cents": float(np.sqrt(np.mean((1200 * np.log2(made / said)) ** 2))),
        "f0_gross_error": float((np.abs(made / said - 1) > GROSS).mean()),
        "voicing_error": voicing,
    }
    # A monotone has no correlation with anything.
    if min(said.std() / said.mean(), made.std() / made.mean()) < _STEADY:
        return Score(values=values, absent={"f0_correlation": Reason.CONSTANT_PITCH})
    return Score(values={**values, "f0_correlation": float(np.corrcoef(said, made)[0, 1])})
