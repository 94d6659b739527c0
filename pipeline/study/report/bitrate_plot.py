"""The picture of a task's bitrate and quality, with the Pareto front."""

import math
from collections.abc import Sequence
from typing import Any

from pipeline.cards.plots import new_figure, png
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.study.facts import Level, StudyFacts
from pipeline.study.metrics import METRICS
from pipeline.study.report.style import FAINT, INK, SMALL, USUAL, style
from pipeline.study.report.summaries import bitrate_picture
from pipeline.study.statistics.ranking import distinct, front

_NEAR = 0.08
"""Points nearer to each other than this share of the width have their labels in one column."""
_APART = 0.052
"""Of two labels in a column, as a share of the height."""
_LOWEST, _HIGHEST = 0.03, 0.97


def bitrate_plot(facts: StudyFacts, task: str) -> Picture:
    """Draw a point for each level of a task.

    Args:
        facts: Of the study.
        task: Which; it has levels.
    """
    levels = distinct(facts.levels, task)
    metric = levels[0].metric
    best = front(levels)
    figure = new_figure((8.4, 4.2))
    axes = figure.subplots()
    _points(axes, levels)
    axes.plot(
        [level.bits_per_second for level in best],
        [level.figure.mean for level in best],
        drawstyle="steps-post",
        color=INK,
        linewidth=1,
        zorder=1,
    )
    axes.plot(
        [level.bits_per_second for level in best],
        [level.figure.mean for level in best],
        "o",
        markersize=13,
        markerfacecolor="none",
        color=INK,
        label="Pareto front",
    )
    _scales(axes, levels, metric)
    _labels(axes, levels)
    axes.set_title(f"{task}: bitrate and {METRICS[metric].label}; lines: standard error over seeds", fontsize=USUAL)
    figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=7)
    told = ", ".join(f"{_name(level)} {level.bits_per_second:,.0f} bit/s {level.figure.mean:.4g}" for level in best)
    alt = f"Bits per second against {METRICS[metric].label} of {task}. On the Pareto front: {told}"
    return Picture(name=bitrate_picture(task), alt=alt, data=png(figure))


def _points(axes: Any, levels: Sequence[Level]) -> None:
    factors = list(dict.fromkeys(level.factor for level in levels if level.difference is not None))
    for place, factor in enumerate(factors):
        those = [level for level in levels if level.factor == factor and level.difference is not None]
        _some(axes, those, shown_text(factor, 24), style(place).marker, style(place).colour)
    _some(axes, [level for level in levels if level.difference is None], "centre", "*", INK)


def _some(axes: Any, levels: Sequence[Level], label: str, marker: str, colour: str) -> None:
    if levels:
        axes.errorbar(
            [level.bits_per_second for level in levels],
            [level.figure.mean for level in levels],
            yerr=[level.figure.standard_error or 0.0 for level in levels],
            linestyle="none",
            marker=marker,
            color=colour,
            markeredgecolor=INK,
            markersize=10 if marker == "*" else 7,
            markeredgewidth=0.6,
            label=label,
        )


def _scales(axes: Any, levels: Sequence[Level], metric: str) -> None:
    from matplotlib.ticker import NullLocator, ScalarFormatter

    bits = [level.bits_per_second for level in levels]
    axes.set_xscale("log")
    # Room on the right for the labels of the last points.
    axes.set_xlim(min(bits) / 1.3, max(bits) * max(1.5, (max(bits) / min(bits)) ** 0.3))
    ticks = sorted({level.bits_per_second for level in levels})
    kept = [bit for place, bit in enumerate(ticks) if not place or bit / ticks[place - 1] > 1.12]
    axes.set_xticks(kept)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.3)
    axes.set_xlabel("bits per second (logarithmic)", fontsize=USUAL)
    arrow = "\u2190 better" if METRICS[metric].lower_is_better else "better \u2192"
    axes.set_ylabel(f"{METRICS[metric].label}   {arrow}", fontsize=USUAL)


def _labels(axes: Any, levels: Sequence[Level]) -> None:
    """Write the names of points to the right of those that are near each other, one below the other."""
    axes.autoscale_view()
    to_share = axes.transData + axes.transAxes.inverted()
    places = [(*to_share.transform((level.bits_per_second, level.figure.mean)), level) for level in levels]
    columns: list[list[tuple[float, float, Level]]] = []
    for place in sorted(places, key=lambda found: found[0]):
        if columns and place[0] - columns[-1][-1][0] < _NEAR:
            columns[-1].append(place)
        else:
            columns.append([place])
    for column in columns:
        right = column[-1][0] + 0.022
        below = sorted(column, key=lambda found: found[1])
        for (x, y, level), height in zip(below, spread([found[1] for found in below]), strict=True):
            plain = math.isclose(y, height, abs_tol=1e-3) and right - x < 0.03
            axes.annotate(
                _name(level),
                (x, y),
                (right, height),
                xycoords="axes fraction",
                textcoords="axes fraction",
                fontsize=SMALL,
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
                arrowprops=None if plain else {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6},
            )


def spread(heights: Sequence[float]) -> list[float]:
    """Move heights apart, as little as it takes, and into the picture where there is room.

    Args:
        heights: Shares of the height of the picture, from the lowest to the highest.
    """
    moved = list(heights)
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + _APART)
    back = (sum(moved) - sum(heights)) / len(moved)
    moved = [max(height - back, _LOWEST + place * _APART) for place, height in enumerate(moved)]
    last = len(moved) - 1
    return [min(height, _HIGHEST - (last - place) * _APART) for place, height in enumerate(moved)]


def _name(level: Level) -> str:
    return "centre" if level.difference is None else shown_text(level.level, 24)
