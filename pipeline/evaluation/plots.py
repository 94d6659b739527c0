"""The plots of an evaluation as PNG, where matplotlib is installed.

Letters: L layers, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.cards.plots import can_plot, new_figure, png
from pipeline.evaluation.over_time import draw_over_time
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.evaluation.recordings import Heard

_MOST_CLASSES = 40


def draw(figures: Mapping[str, Any], use: Mapping[str, Any], heard: Mapping[str, Heard]) -> list[Picture]:
    """Draw what an evaluation has numbers for; nothing without matplotlib.

    Args:
        figures: ``metrics.json``.
        use: ``layer_use.json``.
        heard: Recordings of its examples, by utterance id.
    """
    if not can_plot():
        return []
    found = []
    for side, told in use["sides"].items():
        found.append(_bars(side, told["all"], use["layers"]))
        if told["by_label"]:
            found.append(_by_label(side, told["by_label"], use["layers"]))
    for side, told in figures["sides"].items():
        if "confusion" in told and len(told["confusion"]["classes"]) <= _MOST_CLASSES:
            found.append(_confusion(side, told["confusion"]))
    for number, example in enumerate(use["examples"]):
        found.append(draw_over_time(number, example, use["layers"], heard[example["utterance_id"]]))
    return found


def _bars(side: str, told: Mapping[str, Any], layers: Sequence[str]) -> Picture:
    figure = new_figure((5.0, 3.2))
    axes = figure.subplots()
    axes.bar(range(len(layers)), told["mean"], yerr=told["spread_over_utterances"], capsize=3, color="#31688e")
    axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean weight")
    axes.set_title(f"layer use, {shown_text(side)}; bars: standard deviation over utterances", fontsize=9)
    spoken = ", ".join(f"{name} {mean:.3f}" for name, mean in zip(layers, told["mean"], strict=True))
    return Picture(name=f"layer_use_{side}.png", alt=f"Mean weight of each layer, {side}: {spoken}", data=png(figure))


def _by_label(side: str, told: Mapping[str, Any], layers: Sequence[str]) -> Picture:
    names = list(told)[:_MOST_CLASSES]
    means = np.array([told[name]["mean"] for name in names])
    figure = new_figure((5.0, max(2.2, 0.28 * len(names) + 1.4)))
    axes = figure.subplots()
    image = axes.imshow(means, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), [shown_text(name, 24) for name in names], fontsize=8)
    axes.set_title(f"mean weight by label, {shown_text(side)}", fontsize=9)
    figure.colorbar(image, ax=axes)
    alt = f"Mean weight of each layer by label, {side}; the table of layer use has the numbers"
    return Picture(name=f"layer_use_by_label_{side}.png", alt=alt, data=png(figure))


def _confusion(side: str, told: Mapping[str, Any]) -> Picture:
    names, counts = told["classes"], np.array(told["counts"])
    inches = max(3.6, 0.32 * len(names) + 1.8)
    figure = new_figure((inches, inches))
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        dark = shares[row, column] > 0.5
        axes.text(column, row, counts[row, column], ha="center", va="center", color="w" if dark else "k", fontsize=8)
    shown = [shown_text(name, 16) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), shown, fontsize=8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(f"confusion, {shown_text(side)}", fontsize=9)
    alt = f"Confusion matrix of {side}; the table beside it has the numbers"
    return Picture(name=f"confusion_{side}.png", alt=alt, data=png(figure))
