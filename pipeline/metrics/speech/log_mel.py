"""Log-mel distance: the mean absolute difference of the logarithms of 80 mel bins, over all frames.

The spectrum that most vocoders are trained on, at 16 kHz: windows of 1024 samples every 256, magnitudes, Slaney's
filters from 0 to 8 kHz, natural logarithm above 1e-5. 0 for equal waveforms; a factor on the waveform adds its
logarithm where nothing is at the floor. 1 is 8.7 dB.

Source: Kong et al. 2020, HiFi-GAN (arXiv 2010.05646), equation 8, whose loss it is; there at 22.05 kHz.
"""

from collections.abc import Iterator

import numpy as np

from pipeline.metrics.speech.judge import Judge, Measure, Pair, Score, Waveform
from pipeline.metrics.speech.levels import check_audible
from pipeline.metrics.speech.spectra import MEL_FRAMES, Array, magnitudes, mel_filters

FLOOR = 1e-5
"""Magnitude of a mel bin below which its logarithm is not taken."""
LEAST_SECONDS = 0.1


def log_mel(waveform: Waveform) -> Iterator[Array]:
    """Give the log-mel spectra of a waveform (S,) in blocks that make (T, 80), T = S // 256 + 1."""
    for magnitudes_TF in magnitudes(waveform, MEL_FRAMES):
        yield np.log(np.maximum(magnitudes_TF @ mel_filters(), FLOOR))


class LogMelDistance(Judge):
    """Judges by log-mel spectra."""

    name = "log_mel"
    measures = (Measure(name="log_mel_distance", unit="", higher_is_better=False),)

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.reference is not None
        check_audible(pair.reference, least_seconds=LEAST_SECONDS, what="the reference")
        apart, count = 0.0, 0
        for said_TM, made_TM in zip(log_mel(pair.reference), log_mel(pair.generated), strict=True):
            apart += float(np.abs(said_TM - made_TM).sum())
            count += said_TM.size
        return Score(values={"log_mel_distance": apart / count})
