"""The plots of an export's card."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.cards.plots import Plot, draw_all
from pipeline.export.cards.card import ExportCard
from pipeline.export.cards.statistics import MICROSECONDS

_HOUR = 3600 * MICROSECONDS


def draw(card: ExportCard) -> dict[str, bytes]:
    """Draw the plots that a card has numbers for, PNG by name; needs matplotlib."""
    return draw_all(PLOTS, card, lambda plot: plot.shows)


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


PLOTS: Mapping[str, Plot[ExportCard]] = {
    "lengths": Plot(
        shows="Lengths of utterances", draw=_lengths, has_numbers=lambda card: bool(card.lengths.histogram)
    ),
    "ids": Plot(shows="Share of the ids by rank", draw=_ids, has_numbers=lambda card: bool(card.vocabulary.used)),
    "entropies": Plot(
        shows="Entropy of an id by the number of ids known before it",
        draw=_entropies,
        has_numbers=lambda card: card.ngrams is not None and bool(card.ngrams.orders),
    ),
    "speakers": Plot(
        shows="Audio of speakers, those with most first",
        draw=_speakers,
        has_numbers=lambda card: bool(card.shares["speaker"].largest),
    ),
}
"""By the name of its file without the ending."""
