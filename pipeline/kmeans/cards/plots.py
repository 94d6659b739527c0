"""The plots of a codebook's card."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.cards.plots import Plot, draw_all
from pipeline.kmeans.cards.card import CodebookCard


def draw(card: CodebookCard) -> dict[str, bytes]:
    """Draw the plots that a card has numbers for, PNG by name; needs matplotlib."""
    return draw_all(PLOTS, card, lambda plot: f"{card.unit}: {plot.shows.lower()}")


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
    axes.legend(fontsize=8, loc="upper right")


def _distances(axes: Any, card: CodebookCard) -> None:
    lower, upper, frames = np.array(card.distances.histogram).T
    # Bins grow with the distance: areas are shares, heights are not. One outline draws ten times faster than 200 bars.
    density = frames / frames.sum() / (upper - lower)
    corners = np.stack([lower, lower, upper, upper], axis=1), np.outer(density, [0, 1, 1, 0])
    axes.fill_between(*(values.ravel() for values in corners), linewidth=0)
    axes.axvline(card.distances.quantiles["0.5"], linestyle="--", color="0.3", label="median")
    axes.set(xlabel="distance", ylabel="share of frames, per unit of distance", ylim=(0, None))
    axes.legend(fontsize=8, loc="upper right")


def _runs(axes: Any, card: CodebookCard) -> None:
    assert card.runs is not None
    lengths, found = np.array(card.runs.lengths).T
    axes.plot(lengths, found / found.sum(), marker=".", linestyle="none")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="frames in a run", ylabel="share of runs", yscale="log")


def _always(card: CodebookCard) -> bool:
    return True


PLOTS: Mapping[str, Plot[CodebookCard]] = {
    "inertia": Plot(shows="Inertia by iteration", draw=_inertia, has_numbers=_always),
    "sizes": Plot(shows="Share of the frames by code, largest first", draw=_sizes, has_numbers=_always),
    "distances": Plot(shows="Distance to the nearest centroid", draw=_distances, has_numbers=_always),
    "runs": Plot(shows="Run lengths", draw=_runs, has_numbers=lambda card: card.runs is not None),
}
"""By the ending of its file's name."""
