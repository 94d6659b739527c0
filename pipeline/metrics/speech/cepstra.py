"""Mel cepstral distortion, frame by frame, in dB.

The convention: cepstra 1 to 13 (not 0, so level does not count) of the 80 log-mel powers of a frame,
c_k = 1/M sum_m ln P_m cos(pi k (m + 1/2) / M), and per frame 10 / ln 10 x sqrt(2 sum_k (c_k - c'_k)^2). That is the
root mean square difference in dB of the two spectra over mel bins, smoothed to 13 cosines. Frames are those of the
log-mel distance, 16 ms apart; the waveforms are equally long, so frame t is compared with frame t, and none is warped.
The mean is taken over the frames whose reference is within 40 dB of its loudest frame, which leaves pauses out.

Cepstra of WORLD or SPTK envelopes (as in VERSA, dimension 24 or 39, warped by alpha) have the same formula and other
values: figures of two conventions do not compare.

Source: Kubichek 1993, Mel-cepstral distance measure for objective speech quality assessment.
"""

import math

import numpy as np

from pipeline.metrics.speech.judge import Judge, Measure, Pair, Score, Waveform
from pipeline.metrics.speech.levels import check_audible
from pipeline.metrics.speech.log_mel import FLOOR, LEAST_SECONDS
from pipeline.metrics.speech.spectra import MEL_BINS, MEL_FRAMES, Array, magnitudes, mel_filters

ORDER = 13
"""Highest cepstrum that counts."""
DYNAMIC_RANGE = 40
"""Frames whose reference is softer than its loudest frame by more than this, dB, do not count."""
_DECIBELS = 10 / math.log(10)


def cepstral_distortions(said_TM: Array, made_TM: Array, *, order: int = ORDER) -> Array:
    """Give the distortion of each frame.

    Args:
        said_TM: Natural logarithms of mel powers of the reference (T, M).
        made_TM: Those of what is judged.
        order: Highest cepstrum, below M.

    Returns:
        (T,), dB.
    """
    bins = said_TM.shape[1]
    order_C = np.arange(1, order + 1)
    cosines_MC = np.cos(np.pi / bins * (np.arange(bins)[:, None] + 0.5) * order_C) / bins
    return np.asarray(_DECIBELS * np.sqrt(2 * np.square((said_TM - made_TM) @ cosines_MC).sum(1)), np.float64)


class CepstralDistortion(Judge):
    """Judges by mel cepstra."""

    name = "mcd"
    measures = (Measure(name="mcd", unit="dB", higher_is_better=False),)

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.reference is not None
        for what, waveform in (("the reference", pair.reference), ("it", pair.generated)):
            check_audible(waveform, least_seconds=LEAST_SECONDS, what=what)
        said, made = _Powers(pair.reference), _Powers(pair.generated)
        loud_T = said.decibels_T > said.decibels_T.max() - DYNAMIC_RANGE
        distortions_T = cepstral_distortions(said.log_TM, made.log_TM)
        return Score(values={"mcd": float(distortions_T[loud_T].mean())})


class _Powers:
    """Log-mel powers of a whole utterance, 40 kB per second, and the level of each frame in dB."""

    def __init__(self, waveform: Waveform) -> None:
        log, levels = [], []
        for magnitudes_TF in magnitudes(waveform, MEL_FRAMES):
            powers_TM = np.square(magnitudes_TF) @ mel_filters(MEL_FRAMES, MEL_BINS)
            log.append(np.log(np.maximum(powers_TM, FLOOR**2)))
            levels.append(_DECIBELS * np.log(np.maximum(np.square(magnitudes_TF).sum(1), FLOOR**2)))
        self.log_TM, self.decibels_T = np.concatenate(log), np.concatenate(levels)
