"""The pictures of a study that are bars: shares of variance, layer use, vocoders by set of layers."""

from collections.abc import Sequence
from typing import Any

from pipeline.cards.plots import new_figure, png
from pipeline.evaluation.picture import Picture, shown_text
from pipeline.metrics.uncertainty import OverSeeds
from pipeline.study.facts import Spoken, StudyFacts
from pipeline.study.metrics import METRICS
from pipeline.study.report.style import INK, SMALL, USUAL, style
from pipeline.study.report.summaries import LAYER_USE, SHARES, SPOKEN
from pipeline.study.statistics.findings import several_sets
from pipeline.study.statistics.wording import direction, percent

_WIDTH = 8.4
_ALONE = "trained on this set alone"


def shares_plot(facts: StudyFacts) -> Picture:
    """Draw a bar per task, of a part per factor."""
    tasks = list(dict.fromkeys(found.task for found in facts.shares))
    factors = list(dict.fromkeys(found.factor for found in facts.shares))
    figure = new_figure((_WIDTH, 0.42 * len(tasks) + 1.2))
    axes = figure.subplots()
    filled = dict.fromkeys(tasks, 0.0)
    for place, factor in enumerate(factors):
        looks = style(place)
        those = [found for found in facts.shares if found.factor == factor]
        bars = axes.barh(
            [tasks.index(found.task) for found in those],
            [found.share for found in those],
            left=[filled[found.task] for found in those],
            color=looks.colour,
            hatch=looks.hatch,
            edgecolor=INK,
            linewidth=0.6,
            height=0.7,
            label=shown_text(factor, 24),
        )
        words = [f"{100 * found.share:.0f} %" if found.share >= 0.06 else "" for found in those]
        for text in axes.bar_label(bars, words, label_type="center", fontsize=SMALL):
            if text.get_text():
                text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.2})
        for found in those:
            filled[found.task] += found.share
    axes.set_yticks(range(len(tasks)), tasks, fontsize=USUAL)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance of trials", fontsize=USUAL)
    axes.tick_params(axis="x", labelsize=SMALL)
    figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=6)
    told = [
        f"{task}: "
        + ", ".join(f"{found.factor} {percent(found.share)}" for found in facts.shares if found.task == task)
        for task in tasks
    ]
    return Picture(name=SHARES, alt=f"Share of variance by factor. {'; '.join(told)}", data=png(figure))


def layer_use_plot(facts: StudyFacts) -> Picture:
    """Draw a group of bars per task, a bar per layer."""
    layers = list(dict.fromkeys(layer for use in facts.layer_use for layer in use.layers))
    figure = new_figure((_WIDTH, 3.4))
    axes = figure.subplots()
    for place, layer in enumerate(layers):
        those = [(number, use.weights[use.layers.index(layer)])
                 for number, use in enumerate(facts.layer_use) if layer in use.layers]  # fmt: skip
        _bars(axes, place, len(layers), those, shown_text(layer, 16))
    for number, use in enumerate(facts.layer_use):
        axes.hlines(1 / len(use.layers), number - 0.45, number + 0.45, color=INK, linewidth=1, linestyle="--")
    axes.set_xticks(range(len(facts.layer_use)), [use.task for use in facts.layer_use], fontsize=USUAL)
    axes.set_ylabel("mean weight", fontsize=USUAL)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_title("layer use in the centre; lines: standard error over seeds; dashed: equal weights", fontsize=USUAL)
    figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=8)
    told = [
        f"{use.task}: "
        + ", ".join(f"{name} {weight.mean:.3f}" for name, weight in zip(use.layers, use.weights, strict=True))
        for use in facts.layer_use
    ]
    return Picture(name=LAYER_USE, alt=f"Mean weight of each layer by task. {'; '.join(told)}", data=png(figure))


def spoken_plot(facts: StudyFacts) -> Picture:
    """Draw a panel per metric, a group of bars per set of layers, a bar per kind of vocoder."""
    metrics = list(dict.fromkeys(found.metric for found in facts.spoken))
    conditions = list(dict.fromkeys(found.condition for found in facts.spoken))
    several = several_sets(facts.spoken)
    kinds = [*several, *([_ALONE] if any(found.vocoder not in several for found in facts.spoken) else [])]
    columns = min(2, len(metrics))
    count = -(-len(metrics) // columns)
    figure = new_figure((_WIDTH, 2.6 * count + 0.5))
    panels = figure.subplots(count, columns, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        those = [found for found in facts.spoken if found.metric == metric]
        _spoken(axes, those, conditions, kinds, several)
        axes.set_title(f"{METRICS[metric].label} ({direction(metric)})", fontsize=USUAL)
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=SMALL, frameon=False, loc="outside lower center", ncols=4)
    alt = f"Vocoders by set of layers ({', '.join(conditions)}): {', '.join(METRICS[name].label for name in metrics)}; "
    return Picture(name=SPOKEN, alt=f"{alt}the table below has the numbers", data=png(figure))


def _spoken(
    axes: Any, spoken: Sequence[Spoken], conditions: Sequence[str], kinds: Sequence[str], several: Sequence[str]
) -> None:
    for place, kind in enumerate(kinds):
        those = [(conditions.index(found.condition), found.figure) for found in spoken
                 if (found.vocoder if found.vocoder in several else _ALONE) == kind]  # fmt: skip
        label = kind if kind == _ALONE else f"{shown_text(kind, 24)}: several sets"
        _bars(axes, place, len(kinds), those, label)
    axes.set_xticks(range(len(conditions)), [shown_text(name, 16) for name in conditions], fontsize=SMALL,
                    rotation=45, ha="right")  # fmt: skip
    axes.tick_params(axis="y", labelsize=SMALL)


def _bars(axes: Any, place: int, count: int, values: Sequence[tuple[int, OverSeeds]], label: str) -> None:
    """Draw the bars of one place within each group; each value with the number of its group."""
    looks = style(place)
    axes.bar(
        [group + (place - (count - 1) / 2) * 0.84 / count for group, _ in values],
        [figure.mean for _, figure in values],
        0.84 / count,
        yerr=[figure.standard_error or 0.0 for _, figure in values],
        capsize=2,
        color=looks.colour,
        hatch=looks.hatch,
        edgecolor=INK,
        linewidth=0.6,
        error_kw={"elinewidth": 1},
        label=label,
    )
