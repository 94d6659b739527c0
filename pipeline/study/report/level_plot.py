"""The picture of a task's levels: a panel per factor, a line per level, means, standard errors, single seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cards.plots import new_figure, png
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.study.facts import Level, Result, StudyFacts
from pipeline.study.metrics import METRICS
from pipeline.study.report.style import FAINT, INK, SMALL, USUAL, style
from pipeline.study.report.task import levels_picture, ordered
from pipeline.study.statistics.ranking import by_factor, centre_of, outcome

_WIDTH, _PER_LEVEL, _PER_PANEL = 8.4, 0.27, 0.75
_MARKS = {"centre": "D", "better": "^", "worse": "v"}
_LEGEND = (
    ("D", "centre"),
    ("^", "better than the centre"),
    ("v", "worse"),
    ("o", "cannot be told apart"),
)


def level_plot(facts: StudyFacts, task: str) -> Picture:
    """Draw the levels of a task.

    Args:
        facts: Of the study.
        task: Which; it has levels.
    """
    factors = {name: ordered(facts, name, levels) for name, levels in by_factor(facts.levels, task).items()}
    metric = next(iter(factors.values()))[0].metric
    columns = min(2, len(factors))
    count = math.ceil(len(factors) / columns)
    names = list(factors)
    most = [max(len(factors[name]) for name in names[row * columns : (row + 1) * columns]) for row in range(count)]
    heights = [_PER_LEVEL * levels + _PER_PANEL for levels in most]
    figure = new_figure((_WIDTH, sum(heights) + 0.8))
    panels = figure.subplots(count, columns, squeeze=False, sharex=True, height_ratios=heights).ravel()
    for axes, (name, levels) in zip(panels, factors.items(), strict=False):
        _panel(axes, name, levels, facts.results)
    for axes in panels[len(factors) :]:
        axes.set_axis_off()
    arrow = "\u2190 better" if METRICS[metric].lower_is_better else "better \u2192"
    told = "means over seeds, standard errors (lines), single seeds (dots)"
    figure.suptitle(f"{task}: {METRICS[metric].label}, {arrow};   {told}", fontsize=USUAL)
    _legend(figure)
    return Picture(name=levels_picture(task), alt=_alt(task, metric, factors), data=png(figure))


def _panel(axes: Any, name: str, levels: Sequence[Level], results: Sequence[Result]) -> None:
    centre = centre_of(levels)
    for place, level in enumerate(levels):
        told = outcome(level, centre)
        values = single_seeds(level, results)
        axes.plot(values, [place + 0.22] * len(values), ".", color=FAINT, markersize=4)
        axes.errorbar(
            level.figure.mean,
            place,
            xerr=level.figure.standard_error,
            marker=_MARKS.get(told, "o"),
            color=INK if level is centre else style(0).colour,
            markerfacecolor="white" if told not in _MARKS else None,
            markersize=6,
            capsize=3,
        )
    if centre is not None:
        axes.axvline(centre.figure.mean, color=FAINT, linestyle="--", linewidth=0.8, zorder=0)
    labels = [shown_text(level.level, 24) + (" (centre)" if level is centre and level.level != "centre" else "")
              for level in levels]  # fmt: skip
    axes.set_yticks(range(len(levels)), labels, fontsize=SMALL)
    axes.set_ylim(len(levels) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=SMALL, labelbottom=True)
    axes.set_title(shown_text(name or "centre", 40), fontsize=USUAL, loc="left")
    axes.grid(axis="x", alpha=0.3)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=marker, linestyle="none", color=INK if marker == "D" else style(0).colour,
               markerfacecolor="white" if marker == "o" else None, label=label)
        for marker, label in _LEGEND
    ]  # fmt: skip
    figure.legend(handles=handles, ncols=len(handles), fontsize=SMALL, frameon=False, loc="outside lower center")


def single_seeds(level: Level, results: Sequence[Result]) -> list[float]:
    """Give the figure of each trial of a level.

    A vocoder's trial has a figure of each set of layers that it speaks: those are taken whose mean is the level's.
    """
    found: dict[str, list[float]] = {}
    for row in results:
        if row.trial in level.trials and row.metric == level.metric:
            found.setdefault(row.condition, []).append(row.value)
    means = ((values, sum(values) / len(values)) for values in found.values())
    return next((values for values, mean in means if math.isclose(mean, level.figure.mean, rel_tol=1e-6)), [])


def _alt(task: str, metric: str, factors: Mapping[str, Sequence[Level]]) -> str:
    told = [
        f"{name or 'centre'}: " + ", ".join(f"{level.level} {level.figure.mean:.4g}" for level in levels)
        for name, levels in factors.items()
    ]
    return f"Mean {METRICS[metric].label} of {task} by level of each factor. {'; '.join(told)}"
