"""Curves over K and over the amount of data: points taken from cards, as JSON, Markdown and plots."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.cards.markdown import page, table
from pipeline.cards.plots import new_figure, png
from pipeline.kmeans.cards.card import CodebookCard


@dataclass(frozen=True, kw_only=True)
class Point:
    """One codebook of a sweep.

    Attributes:
        layer: Encoder layer.
        num_clusters: K.
        quantizer: Residual stage.
        fraction: Share of the frames that it was fitted on.
        frames: These frames.
        iterations: Iterations of its fit.
        explained_variance: Share of the variance of the frames described; None where they do not vary.
        mean_square: Mean squared distance of these to their centroids.
        perplexity: Of the codes.
        share_of_log_k: Their entropy over log K.
        dead: Codes without a frame.
        bits_per_second: Frame rate times entropy.
        nmi: Normalised mutual information with each label of utterances.
        pnmi: Of the labels of an alignment, None without one.
    """

    layer: int
    num_clusters: int
    quantizer: int
    fraction: float
    frames: int
    iterations: int
    explained_variance: float | None
    mean_square: float
    perplexity: float
    share_of_log_k: float
    dead: int
    bits_per_second: float
    nmi: Mapping[str, float]
    pnmi: float | None


def point(card: CodebookCard, fraction: float) -> Point:
    """Take the point of a card whose codebook was fitted on a share of the frames."""
    return Point(
        layer=card.layer,
        num_clusters=card.num_clusters,
        quantizer=card.quantizer,
        fraction=fraction,
        frames=card.fitting.use.frames,
        iterations=len(card.fitting.inertia),
        explained_variance=card.explained_variance,
        mean_square=card.distances.mean_square,
        perplexity=card.use.perplexity,
        share_of_log_k=card.use.share_of_log_k,
        dead=card.use.dead,
        bits_per_second=card.bitrate.entropy,
        nmi={name: found.nmi for name, found in card.labels.items()},
        pnmi=None if card.alignment is None else card.alignment.pnmi,
    )


def to_json(points: Sequence[Point], facts: Mapping[str, Any]) -> bytes:
    """Write a sweep: what holds for all points, and a line for each."""
    lines = [json.dumps(asdict(each), sort_keys=True) for each in points]
    head = json.dumps(dict(facts), sort_keys=True)
    return (head[:-1] + ', "points": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def render(points: Sequence[Point], facts: Mapping[str, Any], *, plots: bool) -> str:
    """Write a sweep as Markdown.

    Args:
        points: In the order of their lines.
        facts: ``features`` and ``described_on``, the datasets fitted and described on.
        plots: Whether ``layer_07.png`` and its like lie beside it.
    """
    held_out = (
        "The codebooks are described on the very features that they were fitted on: nothing here is held out."
        if facts["features"] == facts["described_on"]
        else f"They are described on `{facts['described_on']}`."
    )
    sections = ["# Codebooks by K and by amount of data", f"Fitted on shares of `{facts['features']}`. {held_out}"]
    for layer in sorted({each.layer for each in points}):
        own = [each for each in points if each.layer == layer]
        sections.append(f"## Layer {layer}")
        if plots:
            sections.append(f"![layer {layer}]({plot_name(layer)})")
        sections.append(table(_head(own), [_line(each, _labels(own)) for each in own]))
    sections.append(
        "Smaller shares are subsets of larger ones. With few frames a code, mutual information and explained variance "
        "of the frames fitted on are too high; compare K on frames that are held out. Numbers of a residual stage are "
        "of what the stages before it leave."
    )
    return page(sections)


def _labels(points: Sequence[Point]) -> list[str]:
    return sorted({name for each in points for name in each.nmi})


def _head(points: Sequence[Point]) -> list[str]:
    names = ["K", "stage", "share", "frames fitted on", "iterations", "explained variance", "perplexity", "of log2 K"]
    return [*names, "dead", "bit/s", *(f"NMI {name}" for name in _labels(points)), "PNMI"]


def _line(each: Point, labels: Sequence[str]) -> list[str]:
    explained = "" if each.explained_variance is None else f"{each.explained_variance:.2%}"
    line = [f"{each.num_clusters:,}", str(each.quantizer), f"{each.fraction:g}", f"{each.frames:,}"]
    line += [f"{each.iterations:,}", explained, f"{each.perplexity:,.1f}", f"{each.share_of_log_k:.2%}"]
    line += [f"{each.dead:,}", f"{each.bits_per_second:,.1f}"]
    line += [f"{each.nmi[name]:.4f}" if name in each.nmi else "" for name in labels]
    return [*line, "" if each.pnmi is None else f"{each.pnmi:.4f}"]


def plot_name(layer: int) -> str:
    """Name the file of a layer's plot."""
    return f"layer_{layer:02d}.png"


def draw(points: Sequence[Point]) -> bytes:
    """Draw the curves of one layer's first stage, PNG: over K on the left, over the frames fitted on on the right.

    Needs matplotlib.
    """
    own = [each for each in points if each.quantizer == 0]
    measures: dict[str, Callable[[Point], float | None]] = {
        "explained variance": lambda each: each.explained_variance,
        "entropy over log K": lambda each: each.share_of_log_k,
    }
    for name in _labels(own):
        measures[f"NMI {name}"] = lambda each, name=name: each.nmi.get(name)  # type: ignore[misc]
    if any(each.pnmi is not None for each in own):
        measures["PNMI"] = lambda each: each.pnmi
    figure = new_figure((8.0, 2.6 * len(measures)))
    for row, (name, measure) in zip(figure.subplots(len(measures), 2, squeeze=False), measures.items(), strict=True):
        _lines(row[0], own, measure, lambda each: each.num_clusters, lambda each: f"share {each.fraction:g}")
        _lines(row[1], own, measure, lambda each: each.frames, lambda each: f"K {each.num_clusters:,}")
        row[0].set(xlabel="K", ylabel=name, xscale="log")
        row[1].set(xlabel="frames fitted on", xscale="log")
    figure.suptitle(f"layer {own[0].layer}", fontsize=9)
    return png(figure)


def _lines(
    axes: Any,
    points: Sequence[Point],
    measure: Callable[[Point], float | None],
    place: Callable[[Point], float],
    line: Callable[[Point], str],
) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    for each in sorted(points, key=lambda each: (each.fraction, each.num_clusters)):
        value = measure(each)
        if value is not None:
            found.setdefault(line(each), []).append((place(each), value))
    for name, pairs in found.items():
        pairs.sort()
        axes.plot(*zip(*pairs, strict=True), marker=".", label=name)
    axes.grid(alpha=0.3)
    if found:
        axes.legend(fontsize=7)
