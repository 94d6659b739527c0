"""The picture of an utterance over time: its spectrogram, what a recogniser writes when, and the weights of its layers.

All share one time axis: weights of frame t and the spectra that begin in it lie over each other.
Letters: T frames, L layers, N spectra, M mel bins.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.cards.plots import new_figure, png
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.evaluation.recordings import Heard

_INCHES_PER_SECOND = 1.1
_LEAST_INCHES, _MOST_INCHES = 6.4, 24.0
_DYNAMIC_RANGE = 12.0
"""What of the log power is shown below the loudest, nats: 52 dB."""
_WORD_SPACE = "\u2423"


def draw_over_time(number: int, example: Mapping[str, Any], layers: Sequence[str], heard: Heard) -> Picture:
    """Draw an utterance; without a spectrogram where there is none.

    Args:
        number: Its place among those shown.
        example: Of ``layer_use.json``.
        layers: Names of the layers (L).
        heard: Its recording.
    """
    weights_TL = np.array(example["weights"])
    seconds = len(weights_TL) * example["seconds_per_frame"]
    symbols = example["symbols"]
    heights = {"weights": max(1.4, 0.22 * len(layers))}
    if symbols is not None:
        heights = {"symbols": 0.45, **heights}
    if heard.log_mel is not None:
        heights = {"spectrogram": 1.6, **heights}
    width = min(_MOST_INCHES, max(_LEAST_INCHES, _INCHES_PER_SECOND * seconds))
    figure = new_figure((width, sum(heights.values()) + 1.2))
    found = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights.values()))[:, 0]
    axes = dict(zip(heights, found, strict=True))
    if heard.log_mel is not None:
        _spectrogram(axes["spectrogram"], heard.log_mel, heard.seconds_per_spectrum)
    if symbols is not None:
        _symbols(axes["symbols"], symbols, example["seconds_per_frame"])
    _weights(figure, axes["weights"], weights_TL, seconds, layers, list(axes.values()))
    titles = [shown_text(example["utterance_id"], 60)]
    said = [what for what in ("reference", "hypothesis") if what in example]
    titles += [f"{what}: {shown_text(example[what], int(11 * width))}" for what in said]
    found[0].set_title("\n".join(titles), fontsize=8)
    return Picture(
        name=f"over_time_{number}.png", alt=_alt(example, seconds, list(heights), weights_TL, layers), data=png(figure)
    )


def _spectrogram(axes: Any, log_mel_NM: np.ndarray, seconds_per_spectrum: float) -> None:
    most = float(log_mel_NM.max())
    count, bins = log_mel_NM.shape
    extent = (0, count * seconds_per_spectrum, -0.5, bins - 0.5)
    how = {"aspect": "auto", "origin": "lower", "cmap": "magma", "vmin": most - _DYNAMIC_RANGE, "vmax": most}
    axes.imshow(log_mel_NM.T, extent=extent, **how)
    axes.set_ylabel("mel band", fontsize=8)
    axes.tick_params(labelsize=8)


def _symbols(axes: Any, symbols: Sequence[Mapping[str, Any]], seconds_per_frame: float) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("CTC", fontsize=8)
    for one in symbols:
        middle = one["seconds"] + seconds_per_frame / 2
        axes.axvline(middle, ymax=0.25, color="#440154", linewidth=1)
        text = shown_text(_WORD_SPACE if one["symbol"] == " " else one["symbol"], 12)
        axes.text(middle, 0.6, text, ha="center", va="center", fontsize=8, clip_on=True)


def _weights(
    figure: Any, axes: Any, weights_TL: np.ndarray, seconds: float, layers: Sequence[str], beside: Sequence[Any]
) -> None:
    extent = (0, seconds, -0.5, len(layers) - 0.5)
    image = axes.imshow(weights_TL.T, aspect="auto", origin="lower", extent=extent, cmap="viridis", vmin=0)
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_xlim(0, seconds)
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=8)
    # Room for the bar is taken from all, or the time axes would end at different places.
    figure.colorbar(image, ax=beside, label="weight", fraction=0.05, pad=0.01)


def _alt(
    example: Mapping[str, Any], seconds: float, panels: Sequence[str], weights_TL: np.ndarray, layers: Sequence[str]
) -> str:
    drawn = {"spectrogram": "spectrogram", "symbols": "symbols of the greedy path", "weights": "weight of each layer"}
    most = layers[int(weights_TL.mean(axis=0).argmax())]
    return (
        f"Over the {seconds:.2f} s of utterance {example['utterance_id']}: "
        f"{', '.join(drawn[name] for name in panels)}; {most} has the most weight"
    )
