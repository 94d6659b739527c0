"""Recordings side by side as one HTML file, as that of a vocoder: to listen, figures, differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.html import document, note, table
from pipeline.evaluation.picture import Picture
from pipeline.evaluation.speech.page import STYLE, differences_part, example_part, figures_part, judge_lines

_SECTIONS = [("listen", "Listen"), ("figures", "Figures"), ("differences", "Differences"), ("about", "About")]


def page(found: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], pictures: Sequence[Picture]) -> bytes:
    """Write the page.

    Args:
        found: ``metrics.json``.
        examples: As the page of a vocoder takes them.
        pictures: ``utterance_0.png`` and following; none where matplotlib is not installed.
    """
    parts = ['<h2 id="listen">Listen</h2>', note("The same utterances, as each manifest has them.")]
    parts += [example_part(number, example, {}, pictures) for number, example in enumerate(examples)]
    parts += ['<h2 id="figures">Figures</h2>', figures_part(found)]
    parts += ['<h2 id="differences">Differences</h2>', differences_part(found, "manifest")]
    parts += ['<h2 id="about">About</h2>', _about(found)]
    if not pictures:
        parts.append("<p>No pictures: matplotlib was not installed; the extra <code>plots</code> has it.</p>")
    return document("Recordings side by side", _SECTIONS, parts, style=STYLE, media=True)


def _about(found: Mapping[str, Any]) -> str:
    lines = [("utterances", str(found["utterances"]))]
    lines += [("left out", ", ".join(f"{why} {count}" for why, count in found["left_out"].items() if count) or "none")]
    lines += [(f"{name} (SHA-256)", digest) for name, digest in found["manifests"].items()]
    lines += judge_lines(found)
    return table("What was judged", ["what", "value"], [list(line) for line in lines], words=True)
