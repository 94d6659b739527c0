"""STOI: short-time objective intelligibility, 0 to 1.

A shift of 5 ms takes a clean utterance from 1 to 0.93 (LibriSpeech), one of 20 ms to 0.63, and one of 40 ms to 0.37:
align what a vocoder makes before it is judged (``most_lag_samples`` of ``judge_pairs``). Less than 0.4 s of speech has
no STOI: the library gives 1e-05, which is no figure, so the utterance is a null. Its extended form (ESTOI) adds random
numbers and is not given here.

Source: Taal et al. 2011, An algorithm for intelligibility prediction of time-frequency weighted noisy speech; package
pystoi (MIT).
"""

import warnings

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Reason, Score
from pipeline.metrics.speech.levels import check_audible
from pipeline.metrics.speech.libraries import library

LEAST_SECONDS = 0.4
_NO_FIGURE = 1e-5


class Intelligibility(Judge):
    """Judges by STOI.

    Raises:
        SettingsError: pystoi is not installed.
    """

    name = "stoi"
    measures = (Measure(name="stoi", unit="", higher_is_better=True),)

    def __init__(self) -> None:
        self.library = library("pystoi", who="the judge stoi")

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        from pystoi import stoi

        assert pair.reference is not None
        check_audible(pair.reference, least_seconds=LEAST_SECONDS, what="the reference")
        check_audible(pair.generated, least_seconds=LEAST_SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = float(stoi(pair.reference, pair.generated, SAMPLE_RATE))
        if value == _NO_FIGURE:
            raise UnjudgedError(Reason.TOO_SHORT, "the reference has less than 0.4 s that is not a pause")
        return Score(values={"stoi": value})
