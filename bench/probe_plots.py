"""Draws what probes found: accuracy by layer for features and tokens, and mutual information of tokens."""

from pathlib import Path
from typing import Any

import numpy as np


def draw(answers: dict[str, dict[str, Any]], target: Path) -> None:
    """Draw all answers of one encoder.

    Args:
        answers: As ``bench.probes.systems`` gives them.
        target: PNG to write.
    """
    from matplotlib.figure import Figure

    layers = sorted(int(label.split()[1]) for label in answers if label.startswith("layer "))
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, part in zip(panels[:2], ("features", "tokens"), strict=True):
        names = [name for name in answers["mfcc"][part] if not name.startswith("bits_")]
        for place, name in enumerate(names):
            values = [answers[f"layer {layer}"][part][name] for layer in layers]
            means, spread = [np.mean(value) for value in values], [np.std(value) for value in values]
            axes.errorbar(layers, means, spread, color=f"C{place}", marker="o", markersize=3, label=name)
            axes.axhline(np.mean(answers["mfcc"][part][name]), color=f"C{place}", linestyle=":", linewidth=1)
        axes.set_title(f"{part} (dotted: MFCC)")
        axes.set_ylabel("accuracy")
        axes.legend(fontsize="small")
    for place, name in enumerate(("bits_digit", "bits_speaker", "bits_digit_shuffled")):
        panels[2].plot(
            layers, [answers[f"layer {layer}"]["tokens"][name] for layer in layers], "o-", color=f"C{place}", label=name
        )
        panels[2].axhline(answers["mfcc"]["tokens"][name], color=f"C{place}", linestyle=":", linewidth=1)
    panels[2].set_title("mutual information of token and label (dotted: MFCC)")
    panels[2].set_ylabel("bits a frame")
    panels[2].legend(fontsize="small")
    for axes in panels:
        axes.set_xlabel("layer")
        axes.set_xticks(layers)
    figure.savefig(target, dpi=80)
