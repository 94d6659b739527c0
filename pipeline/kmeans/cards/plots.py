"""The plots of a card as PNG, where matplotlib is installed. Bytes may differ between versions of matplotlib."""

import importlib.util
import io
from typing import Any

import numpy as np

from pipeline.kmeans.cards.card import CodebookCard

PLOTS = {
    "inertia": "Inertia by iteration",
    "sizes": "Share of the frames by code, largest first",
    "distances": "Distance to the nearest centroid",
    "runs": "Run lengths",
}
"""What each plot shows, by the ending of its file's name."""

_INCHES, _DPI = (5.0, 3.2), 110


def can_plot() -> bool:
    """Say whether matplotlib is installed: the extra ``plots``."""
    return importlib.util.find_spec("matplotlib") is not None


def wanted_plots(card: CodebookCard) -> list[str]:
    """Name the plots that a card has numbers for."""
    return [name for name in PLOTS if name != "runs" or card.runs is not None]


def draw(card: CodebookCard) -> dict[str, bytes]:
    """Draw the plots of a card, PNG by name; needs matplotlib.

    The figures do not go through pyplot, so none of its global state is used or changed.
    """
    return {name: _png(card, name) for name in wanted_plots(card)}


def _png(card: CodebookCard, name: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{card.unit}: {PLOTS[name].lower()}", fontsize=9)
    axes.grid(alpha=0.3)
    {"inertia": _inertia, "sizes": _sizes, "distances": _distances, "runs": _runs}[name](axes, card)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _inertia(axes: Any, card: CodebookCard) -> None:
    per_frame = np.array(card.fitting.inertia) / max(1, card.fitting.use.frames)
    axes.plot(np.arange(1, len(per_frame) + 1), per_frame, marker=".")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="iteration", ylabel="inertia per frame fitted on")


def _sizes(axes: Any, card: CodebookCard) -> None:
    shares = np.sort(np.array(card.codes))[::-1] / max(1, card.use.frames)
    filled = shares[shares > 0]
    axes.plot(np.arange(1, len(filled) + 1), filled, label="codes")
    axes.axhline(1 / card.num_clusters, linestyle="--", color="0.5", label="1 / K")
    axes.set(xlabel="rank", ylabel="share of frames", yscale="log", xlim=(0, card.num_clusters + 1))
    axes.legend(fontsize=8)


def _distances(axes: Any, card: CodebookCard) -> None:
    lower, upper, frames = np.array(card.distances.histogram).T
    # Bins grow with the distance: areas are shares, heights are not.
    axes.bar(lower, frames / frames.sum() / (upper - lower), width=upper - lower, align="edge")
    axes.axvline(card.distances.quantiles["0.5"], linestyle="--", color="0.3", label="median")
    axes.set(xlabel="distance", ylabel="share of frames, per unit of distance")
    axes.legend(fontsize=8)


def _runs(axes: Any, card: CodebookCard) -> None:
    assert card.runs is not None
    lengths, found = np.array(card.runs.lengths).T
    axes.plot(lengths, found / found.sum(), marker=".", linestyle="none")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="frames in a run", ylabel="share of runs", yscale="log")
