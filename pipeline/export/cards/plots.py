"""The plots of an export's card as PNG, where matplotlib is installed. Bytes may differ between its versions."""

import io
from typing import Any

import numpy as np

from pipeline.export.cards.card import ExportCard
from pipeline.export.cards.statistics import MICROSECONDS

PLOTS = {
    "lengths": "Lengths of utterances",
    "ids": "Share of the ids by rank",
    "entropies": "Entropy of an id by the number of ids known before it",
    "speakers": "Audio of speakers, those with most first",
}
"""What each plot shows, by the name of its file without the ending."""

_INCHES, _DPI = (5.0, 3.2), 110
_HOUR = 3600 * MICROSECONDS


def wanted_plots(card: ExportCard) -> list[str]:
    """Name the plots that a card has numbers for."""
    has = {
        "lengths": bool(card.lengths.histogram),
        "ids": bool(card.vocabulary.used),
        "entropies": card.ngrams is not None and bool(card.ngrams.orders),
        "speakers": bool(card.shares["speaker"].largest),
    }
    return [name for name in PLOTS if has[name]]


def draw(card: ExportCard) -> dict[str, bytes]:
    """Draw the plots of a card, PNG by name; needs matplotlib (``kmeans.cards.plots.can_plot``).

    The figures do not go through pyplot, so none of its global state is used or changed.
    """
    return {name: _png(card, name) for name in wanted_plots(card)}


def _png(card: ExportCard, name: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(PLOTS[name], fontsize=9)
    axes.grid(alpha=0.3)
    {"lengths": _lengths, "ids": _ids, "entropies": _entropies, "speakers": _speakers}[name](axes, card)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _lengths(axes: Any, card: ExportCard) -> None:
    # The outer bins have one edge: they are drawn as an octave.
    bins = [
        (low or (high or 0) / 2, 2 * low if high is None else high, number)
        for low, high, number in card.lengths.histogram
    ]
    lower, upper, utterances = np.array(bins, np.float64).T
    lower, upper = lower / MICROSECONDS, upper / MICROSECONDS
    axes.bar(lower, utterances, width=upper - lower, align="edge")
    axes.set(xlabel="seconds", ylabel="utterances", xscale="log")


def _ids(axes: Any, card: ExportCard) -> None:
    times = np.sort(np.array(card.vocabulary.occurrences[1]))[::-1]
    axes.plot(np.arange(1, len(times) + 1), times / times.sum(), marker="." if len(times) < 50 else None)
    axes.set(xlabel="rank", ylabel="share of ids", xscale="log", yscale="log")


def _entropies(axes: Any, card: ExportCard) -> None:
    assert card.ngrams is not None
    orders, held_out = card.ngrams.orders, card.ngrams.held_out
    known = [entry.order - 1 for entry in orders]
    axes.plot(known, [entry.bits for entry in orders], marker=".", label="of the sample")
    axes.plot(known, [entry.corrected_bits for entry in orders], marker=".", linestyle="--", label="Miller-Madow")
    if held_out is not None:
        axes.plot([0, 1], [held_out.unigram_bits, held_out.bigram_bits], "x", label="held out")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="ids known before", ylabel="bits an id", ylim=(0, 1.1 * axes.get_ylim()[1]))
    axes.legend(fontsize=8, loc="lower left")


def _speakers(axes: Any, card: ExportCard) -> None:
    hours = np.array([microseconds for _, microseconds, _ in card.shares["speaker"].largest]) / _HOUR
    axes.plot(np.arange(1, len(hours) + 1), hours, marker="." if len(hours) < 50 else None)
    axes.set(xlabel="rank", ylabel="hours", yscale="log" if hours.min() > 0 else "linear")
