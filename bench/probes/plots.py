"""The picture of bench/probes.py: figures by layer, with MFCC and the random encoder as horizontal lines."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from bench.probes.tasks import INFORMED

_FLAT = {"mfcc": ("MFCC", "0.2", "--"), "random": ("random encoder, its best layer", "tab:red", ":")}
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:cyan")


def draw(found: Mapping[str, Any]) -> bytes:
    """Draw accuracy by layer for each task, a row for features and one for tokens, and one for information; PNG.

    Bars and bands are standard deviations over seeds. The random encoder's line is its layer with the highest mean,
    chosen for each panel: a harder one to pass than any layer chosen beforehand.

    Needs matplotlib; does not go through pyplot, so none of its global state is used or changed.

    Args:
        found: The figures as they are printed as JSON.
    """
    from matplotlib.figure import Figure

    tasks = [each["task"] for each in found["tasks"]]
    parts = [part for part in ("features", "tokens", "information") if found[part]]
    columns = max(len(tasks), len(INFORMED) if "information" in parts else 1)
    figure = Figure(figsize=(3.0 * columns, 2.7 * len(parts) + 0.5), dpi=110, layout="constrained")
    for part, row in zip(parts, figure.subplots(len(parts), columns, squeeze=False), strict=True):
        panels = tasks if part != "information" else [f"{label}_corrected" for label in INFORMED]
        for axes, measure in zip(row, panels, strict=False):
            _panel(
                axes, [each for each in found[part] if each["measure"] == measure], 100 if part != "information" else 1
            )
            axes.set_title(measure.replace("_corrected", "").replace("_", " "), fontsize=9)
        if part == "information":
            for axes, label in zip(row, INFORMED, strict=False):
                _shuffled(axes, found[part], f"{label}_shuffled_corrected")
        for axes in row[len(panels) :]:
            axes.set_axis_off()
        row[0].set_ylabel(_title(part, found["settings"]["num_clusters"]), fontsize=9)
    named = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named), fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _title(part: str, num_clusters: int) -> str:
    return {
        "features": "features: accuracy, %",
        "tokens": f"tokens, K = {num_clusters}: accuracy, %",
        "information": "I(token; label), bits",
    }[part]


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], scale: float) -> None:
    for system, (label, colour, style) in _FLAT.items():
        own = [row for row in rows if row["system"] == system]
        if own:
            best = max(own, key=lambda row: row["mean"])
            mean, spread = scale * best["mean"], scale * (best["std"] or 0)
            axes.axhline(mean, color=colour, linestyle=style, label=label)
            axes.axhspan(mean - spread, mean + spread, color=colour, alpha=0.12, linewidth=0)
    for system, colour in _colours(rows).items():
        own = [row for row in rows if row["system"] == system]
        layers, means = [row["layer"] for row in own], [scale * row["mean"] for row in own]
        spreads = [scale * (row["std"] or 0) for row in own]
        axes.errorbar(layers, means, spreads, color=colour, marker=".", capsize=2, label=system)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layer", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _shuffled(axes: Any, rows: Sequence[Mapping[str, Any]], measure: str) -> None:
    """Draw beside each curve what the same tokens give with shuffled labels."""
    for system, colour in _colours(rows).items():
        own = [row for row in rows if row["system"] == system and row["measure"] == measure]
        layers, means = [row["layer"] for row in own], [row["mean"] for row in own]
        axes.plot(layers, means, color=colour, linestyle="-.", linewidth=1, label=f"{system}, labels shuffled")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = dict.fromkeys(row["system"] for row in rows if row["system"] not in _FLAT)
    return dict(zip(names, cycle(_COLOURS)))
