"""What a study found: means and standard errors over seeds, as a table, and the weights of layers as a picture."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.study_corpora import CORPORA, Corpus
from pipeline.metrics.uncertainty import OverSeeds, over_seeds

LOWER_IS_BETTER = ("wer", "cer")
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A contender on one side of a corpus.

    Attributes:
        corpus: Name of the corpus.
        side: Test side.
        contender: How it fuses.
        figure: The corpus' metric over seeds; where speakers are left out in turn, of the mean over them.
        minutes: Of all its runs together, training and evaluation.
        weights: Mean weight of each layer over seeds; none where there are no weights.
    """

    corpus: str
    side: str
    contender: str
    figure: OverSeeds
    minutes: float
    weights: tuple[OverSeeds, ...]


def summaries(found: Results) -> list[Summary]:
    """Summarise results, in the order in which they come."""
    keys = dict.fromkeys((each["corpus"], each["side"], each["contender"]) for each in found)
    return [
        _summary(*key, [each for each in found if (each["corpus"], each["side"], each["contender"]) == key])
        for key in keys
    ]


def _summary(corpus: str, side: str, contender: str, mine: Results) -> Summary:
    seeds = sorted({each["seed"] for each in mine})
    by_seed = [[each for each in mine if each["seed"] == seed] for seed in seeds]
    metric = CORPORA[corpus].metric
    uses = [[each["layer_use"] for each in runs] for runs in by_seed if runs[0]["layer_use"] is not None]
    return Summary(
        corpus=corpus,
        side=side,
        contender=contender,
        figure=over_seeds([statistics.fmean(each["metrics"][metric] for each in runs) for runs in by_seed]),
        minutes=sum(each["minutes"] for each in mine),
        weights=tuple(over_seeds(column) for column in zip(*[_means(use) for use in uses], strict=True)),
    )


def _means(rows: Iterable[Sequence[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def best_singles(found: Results, corpus: Corpus, endings: Sequence[str]) -> list[str]:
    """Name the single layer that is best on the test side with the first seed, of those with each ending."""
    told = summaries([each for each in found if each["corpus"] == corpus.name and each["side"] == "test"])
    pick, best = (min if corpus.metric in LOWER_IS_BETTER else max), []
    for ending in endings:
        singles = [each for each in told if re.fullmatch(rf"layer \d{ending}", each.contender)]
        if singles:
            best.append(pick(singles, key=lambda each: each.figure.mean).contender)
    return best


def markdown(told: Sequence[Summary]) -> str:
    """Lay summaries out: a row per contender, a column per corpus and side; below, the weights of attention."""
    places = list(dict.fromkeys((each.corpus, each.side) for each in told))
    cells = {(each.contender, each.corpus, each.side): _cell(each.figure) for each in told}
    lines = ["| | " + " | ".join(f"{corpus}, {side}, {CORPORA[corpus].metric}" for corpus, side in places) + " |"]
    lines.append("|---" * (len(places) + 1) + "|")
    for name in dict.fromkeys(each.contender for each in told):
        lines.append(f"| {name} | " + " | ".join(cells.get((name, *place), "") for place in places) + " |")
    minutes = {place: sum(each.minutes for each in told if (each.corpus, each.side) == place) for place in places}
    lines.append("| minutes of all runs | " + " | ".join(f"{minutes[place]:.0f}" for place in places) + " |")
    return "\n".join([*lines, "", *_weights(told)])


def _weights(told: Sequence[Summary]) -> list[str]:
    """Lay the weights of attention out: a row per corpus, a column per layer."""
    mine = [each for each in told if each.contender.startswith("attention") and each.side == "test"]
    layers = range(1, 1 + max((len(each.weights) for each in mine), default=0))
    lines = ["| weight of attention | " + " | ".join(f"layer {layer}" for layer in layers) + " |"]
    lines.append("|---" * (len(layers) + 1) + "|")
    return lines + [f"| {each.corpus}, {each.contender} | {' | '.join(map(_cell, each.weights))} |" for each in mine]


def _cell(figure: OverSeeds) -> str:
    error = "" if figure.standard_error is None else f" +- {figure.standard_error:.3f}"
    return f"{figure.mean:.3f}{error}"


def draw_layer_use(told: Sequence[Summary], path: Path) -> None:
    """Draw the weights of attention: bars per corpus, with standard errors over seeds; a panel per contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    mine = [each for each in told if each.contender.startswith("attention") and each.side == "test"]
    names = list(dict.fromkeys(each.contender for each in mine))
    figure, panels = pyplot.subplots(len(names), figsize=(8, 2.4 * len(names)), layout="constrained", squeeze=False)
    for axes, name in zip(panels[:, 0], names, strict=True):
        _bars(axes, [each for each in mine if each.contender == name])
        axes.set_title(name, fontsize="medium", loc="left")
        axes.set_ylabel("mean weight")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), ncols=6, fontsize="small", frameon=False,
                  loc="outside lower center")  # fmt: skip
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axes: Any, mine: Sequence[Summary]) -> None:
    from matplotlib import colormaps

    count = len(mine[0].weights)
    for layer in range(count):
        of = [each.weights[layer] for each in mine]
        places = [number + (layer - (count - 1) / 2) * 0.8 / count for number in range(len(mine))]
        errors = [each.standard_error or 0.0 for each in of]
        axes.bar(places, [each.mean for each in of], 0.8 / count, yerr=errors, capsize=2, label=f"layer {layer + 1}",
                 color=colormaps["viridis"](layer / (count - 1)))  # fmt: skip
    axes.set_xticks(range(len(mine)), [f"{each.corpus} ({CORPORA[each.corpus].task})" for each in mine])
    axes.axhline(1 / count, color="grey", linewidth=0.8, linestyle="--")
