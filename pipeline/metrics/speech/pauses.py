"""Cuts long speech at its pauses, for what cannot hear all of it at once. Knows no library.

Shapes: S samples.
"""

from collections.abc import Iterator

import numpy as np

from pipeline.metrics.speech.judge import Waveform

PAUSE_SECONDS = 0.1
"""What must be quiet for a cut."""


def cut_at_pauses(waveform: Waveform, sample_rate: int, *, most_seconds: float) -> Iterator[Waveform]:
    """Cut a waveform where it is quietest, so that no piece is longer than it may be.

    Args:
        waveform: float32 (S,).
        sample_rate: Its rate, Hz.
        most_seconds: Of a piece. It is cut in its last third.

    Yields:
        Stretches of the waveform, in order; together they are all of it. One that is short enough stays whole.
    """
    most, quiet = int(most_seconds * sample_rate), int(PAUSE_SECONDS * sample_rate)
    rest = waveform
    while len(rest) > most:
        start = most * 2 // 3
        power = np.square(rest[start:most], dtype=np.float64)
        # Sums over stretches of a pause's length, one per sample at which one may begin.
        sums = np.cumsum(np.concatenate([[0.0], power]))
        cut = start + int(np.argmin(sums[quiet:] - sums[:-quiet])) + quiet // 2
        yield rest[:cut]
        rest = rest[cut:]
    yield rest
