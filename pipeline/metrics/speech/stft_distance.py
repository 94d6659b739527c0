"""Multi-resolution STFT distance: how far magnitude spectra are apart, over three sizes of window.

For each size: *spectral convergence*, the norm of the difference of magnitudes over the norm of the reference's, and
the mean absolute difference of their logarithms. Both are averaged over the sizes, and the distance is their sum. Phase
does not count; level does. 0 for equal waveforms, without an upper bound.

Source: Yamamoto et al. 2020, Parallel WaveGAN (arXiv 1910.11480), equations 4 to 6 and table 1, whose windows are at
24 kHz; they have the same numbers of samples here. There it is a loss of one batch, here a figure of one utterance.
"""

from itertools import starmap

import numpy as np

from pipeline.metrics.speech.judge import Judge, Measure, Pair, Score
from pipeline.metrics.speech.levels import check_audible
from pipeline.metrics.speech.spectra import Frames, magnitudes

RESOLUTIONS = (
    Frames(fft_length=1024, hop_length=120, window_length=600),
    Frames(fft_length=2048, hop_length=240, window_length=1200),
    Frames(fft_length=512, hop_length=50, window_length=240),
)
POWER_FLOOR = 1e-7
"""Power of a bin below which its logarithm is not taken."""
LEAST_SECONDS = 0.1


class StftDistance(Judge):
    """Judges by magnitude spectra."""

    name = "stft"
    measures = (
        Measure(name="stft_distance", unit="", higher_is_better=False),
        Measure(name="spectral_convergence", unit="", higher_is_better=False),
        Measure(name="log_stft_distance", unit="", higher_is_better=False),
    )

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.reference is not None
        check_audible(pair.reference, least_seconds=LEAST_SECONDS, what="the reference")
        found = [_distances(pair, frames) for frames in RESOLUTIONS]
        convergence, logarithmic = starmap(_mean, zip(*found, strict=True))
        return Score(
            values={
                "stft_distance": convergence + logarithmic,
                "spectral_convergence": convergence,
                "log_stft_distance": logarithmic,
            }
        )


def _mean(*values: float) -> float:
    return sum(values) / len(values)


def _distances(pair: Pair, frames: Frames) -> tuple[float, float]:
    """Give spectral convergence and the mean difference of logarithms."""
    assert pair.reference is not None
    apart = whole = logarithmic = 0.0
    count = 0
    for said_TF, made_TF in zip(magnitudes(pair.reference, frames), magnitudes(pair.generated, frames), strict=True):
        apart += float(np.square(said_TF - made_TF).sum())
        whole += float(np.square(said_TF).sum())
        floor = POWER_FLOOR**0.5
        logarithmic += float(np.abs(np.log(np.maximum(said_TF, floor) / np.maximum(made_TF, floor))).sum())
        count += said_TF.size
    return (apart / whole) ** 0.5, logarithmic / count
