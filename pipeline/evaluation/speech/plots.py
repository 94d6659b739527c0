"""The picture of an utterance: the spectrogram of each condition, and which layers are heard when, on one time axis.

Letters: S samples, T frames, L layers, N spectra, M mel bins.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.cards.plots import new_figure, png
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.evaluation.recordings import log_mel_of

_DYNAMIC_RANGE = 12.0
"""What of the log power is shown below the loudest of the original, nats: 52 dB."""
_INCHES_PER_SECOND = 1.6
_LEAST_INCHES, _MOST_INCHES = 6.4, 24.0


def draw_utterance(
    number: int,
    utterance_id: str,
    waveforms: Mapping[str, np.ndarray],
    clock: Clock,
    *,
    weights: np.ndarray | None = None,
    columns: Sequence[str] = (),
) -> Picture:
    """Draw one utterance.

    Args:
        number: Its place among those shown.
        utterance_id: Its id.
        waveforms: float32 (S,) by condition; the scale of time is that of the longest.
        clock: Frames, at the rate of the waveforms.
        weights: float32 (T, L), how much each layer was heard, of the first condition's length; None for none.
        columns: Names of the layers (L).
    """
    spectra = {name: log_mel_of(waveform, clock) for name, waveform in waveforms.items()}
    lasts = {name: len(waveform) / clock.sample_rate for name, waveform in waveforms.items()}
    seconds = max(lasts.values())
    heights = [1.0] * len(spectra) + ([1.0] if weights is not None else [])
    width = min(_MOST_INCHES, max(_LEAST_INCHES, _INCHES_PER_SECOND * seconds))
    figure = new_figure((width, 0.9 * len(heights) + 0.6))
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    most = float(next(iter(spectra.values())).max())
    for axis, (name, log_mel_NM) in zip(axes, spectra.items(), strict=False):
        how: Mapping[str, Any] = {"vmin": most - _DYNAMIC_RANGE, "vmax": most, "cmap": "magma"}
        axis.imshow(log_mel_NM.T, aspect="auto", origin="lower", extent=(0, lasts[name], 0, log_mel_NM.shape[1]), **how)
        axis.set_xlim(0, seconds)
        axis.set_yticks([])
        axis.set_ylabel(shown_text(name, 16), fontsize=7, rotation=0, ha="right", va="center")
    if weights is not None:
        _weights(axes[-1], weights, next(iter(lasts.values())), columns)
        axes[-1].set_xlim(0, seconds)
    axes[-1].set_xlabel("seconds", fontsize=8)
    alt = f"Spectrograms of the {seconds:.2f} s of {utterance_id}: {', '.join(waveforms)}"
    if weights is not None:
        main = columns[int(weights.mean(axis=0).argmax())]
        alt += f"; below them the weight of each layer over time, {main} has the most"
    return Picture(name=f"utterance_{number}.png", alt=alt, data=png(figure))


def _weights(axis: Any, weights_TL: np.ndarray, seconds: float, columns: Sequence[str]) -> None:
    times = (np.arange(len(weights_TL)) + 0.5) * seconds / len(weights_TL)
    axis.stackplot(times, weights_TL.T, labels=[shown_text(column, 16) for column in columns], linewidth=0)
    axis.set_ylim(0, 1)
    axis.set_xlim(0, seconds)
    axis.set_yticks([])
    axis.set_ylabel("weights", fontsize=7, rotation=0, ha="right", va="center")
    axis.legend(fontsize=6, ncols=len(columns), loc="upper center", frameon=True)
