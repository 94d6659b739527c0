"""What a study found: means and standard errors over seeds, as a table, and the weights of layers as a picture."""

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


def best_single(found: Results, corpus: Corpus) -> str:
    """Name the single layer that is best on the test side with the first seed."""
    singles = [
        each for each in summaries([one for one in found if one["corpus"] == corpus.name and one["side"] == "test"])
        if each.contender.startswith("layer ")
    ]  # fmt: skip
    pick = min if corpus.metric in LOWER_IS_BETTER else max
    return pick(singles, key=lambda each: each.figure.mean).contender


def markdown(told: Sequence[Summary]) -> str:
    """Lay summaries out: a row per corpus and side, a column per contender."""
    contenders = list(dict.fromkeys(each.contender for each in told))
    lines = [
        "| corpus, side, metric | " + " | ".join(contenders) + " | minutes |",
        "|---" * (len(contenders) + 2) + "|",
    ]
    for corpus, side in dict.fromkeys((each.corpus, each.side) for each in told):
        mine = {each.contender: each for each in told if (each.corpus, each.side) == (corpus, side)}
        cells = [_cell(mine[name].figure) if name in mine else "" for name in contenders]
        minutes = sum(each.minutes for each in mine.values())
        lines.append(f"| {corpus}, {side}, {CORPORA[corpus].metric} | {' | '.join(cells)} | {minutes:.0f} |")
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
    """Draw the weights of attention: bars of layers per corpus, with standard errors over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    mine = [each for each in told if each.contender == "attention" and each.side == "test"]
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    width = 0.8 / len(mine[0].weights)
    for layer in range(len(mine[0].weights)):
        places = [number + (layer - (len(mine[0].weights) - 1) / 2) * width for number in range(len(mine))]
        of = [each.weights[layer] for each in mine]
        errors = [each.standard_error or 0.0 for each in of]
        axes.bar(places, [each.mean for each in of], width, yerr=errors, capsize=2, label=f"layer {layer + 1}",
                 color=pyplot.get_cmap("viridis")(layer / (len(mine[0].weights) - 1)))  # fmt: skip
    axes.set_xticks(range(len(mine)), [f"{each.corpus} ({CORPORA[each.corpus].task})" for each in mine])
    axes.axhline(1 / len(mine[0].weights), color="grey", linewidth=0.8, linestyle="--")
    axes.set_ylabel("mean weight over frames")
    axes.legend(ncols=6, fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
