"""What the page of an evaluation says of folds, as HTML; see ``pipeline.evaluation.html``."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.html import table

_SHOWN = 5


def folds_section(figures: Mapping[str, Any], use: Mapping[str, Any]) -> str:
    """Write a row per fold, what they say together, and links to their own pages.

    Args:
        figures: ``metrics.json`` of all folds.
        use: ``layer_use.json`` of all folds.
    """
    metrics = list(figures["over_folds"])
    rows = [
        [
            fold["fold"],
            _some(fold["tested_on"]),
            str(fold["utterances"]),
            str(fold["kept_step"]),
            *(f"{fold['metrics'][name]['value']:.4f}" for name in metrics),
        ]
        for fold in figures["folds"]
    ]
    parts = [
        '<h2 id="folds">Folds</h2>',
        table(
            "Each fold, tested on what it left out", ["fold", "tested on", "utterances", "best step", *metrics], rows
        ),
        _over("Mean over folds and its standard error", "metric", figures["over_folds"]),
    ]
    if use["over_folds"]:
        parts.append(_over("Mean weight of each layer over folds and its standard error", "layer", use["over_folds"]))
    # Names of folds are spelt in the characters of an utterance id, so they need no escape.
    links = [f'<li><a href="folds/{row[0]}/test/index.html">{row[0]}</a></li>' for row in rows]
    return "\n".join([*parts, f'<nav aria-label="Pages of the folds"><ul>{"".join(links)}</ul></nav>'])


def _over(caption: str, what: str, found: Mapping[str, Any]) -> str:
    rows = [[name, f"{one['mean']:.4f}", f"{one['standard_error']:.4f}"] for name, one in found.items()]
    return table(caption, [what, "mean", "standard error"], rows)


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more
