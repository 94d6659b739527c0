"""How much later one waveform is than another, from the envelopes of their bands.

A vocoder invents its phases, so waveforms need not correlate where the speech is the same; the loudness of bands does.
Both are cut into frames, 1 ms apart, whose log-mel bins, less the mean of each bin, are correlated at every lag.
Griffin-Lim's waveforms are found 0 to 2 ms from where they are (24 utterances).
Cost: 1,000 Fourier transforms of 256 points per second of audio.
"""

import numpy as np

from pipeline.metrics.speech.judge import Waveform
from pipeline.metrics.speech.spectra import Array, Frames, magnitudes, mel_filters

FRAMES = Frames(fft_length=256, hop_length=16, window_length=256)
BINS = 12
_FLOOR = 1e-4


def lag_samples(reference: Waveform, generated: Waveform, *, most: int) -> int:
    """Find by how many samples ``generated`` is later than ``reference``.

    Args:
        reference: (S,), not silent.
        generated: (S',), not silent.
        most: Largest lag either way that is tried, samples; rounded down to 1 ms.

    Returns:
        A multiple of 16; negative where ``generated`` is earlier, 0 where no lag is better.
    """
    said_TM, made_TM = _envelopes(reference), _envelopes(generated)
    length = min(len(said_TM), len(made_TM))
    said_TM, made_TM = said_TM[:length], made_TM[:length]
    reach = min(most // FRAMES.hop_length, length - 1)
    # The smallest lag of equally good ones.
    lags = sorted(range(-reach, reach + 1), key=abs)
    return max(lags, key=lambda lag: _agreement(said_TM, made_TM, lag)) * FRAMES.hop_length


def _agreement(said_TM: Array, made_TM: Array, lag: int) -> float:
    """Correlate the frames that both have at a lag."""
    said_TM = said_TM[max(0, -lag) : len(said_TM) - max(0, lag)]
    made_TM = made_TM[max(0, lag) : len(made_TM) + min(0, lag)]
    norm = np.sqrt(np.square(said_TM).sum() * np.square(made_TM).sum())
    return float((said_TM * made_TM).sum() / norm) if norm else 0.0


def _envelopes(waveform: Waveform) -> Array:
    filters_FM = mel_filters(FRAMES, BINS)
    blocks = [np.log(np.maximum(block_TF @ filters_FM, _FLOOR)) for block_TF in magnitudes(waveform, FRAMES)]
    envelopes_TM = np.concatenate(blocks)
    return np.asarray(envelopes_TM - envelopes_TM.mean(0), np.float64)


def aligned(reference: Waveform, generated: Waveform, lag: int) -> tuple[Waveform, Waveform]:
    """Cut both to what they share when ``generated`` is moved earlier by ``lag`` samples; equally long."""
    reference, generated = reference[max(0, -lag) :], generated[max(0, lag) :]
    length = min(len(reference), len(generated))
    return reference[:length], generated[:length]
