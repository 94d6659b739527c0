"""Speech of a vocoder as one HTML file: it opens from disk, asks no network, and needs no JavaScript to listen.

Recordings and pictures are in the file. Whatever comes from data is escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.html import document, figure, note, table, text
from pipeline.evaluation.picture import Picture
from pipeline.evaluation.speech.conditions import GRIFFIN_LIM, ORIGINAL

STYLE = """
dl.heard{display:grid;grid-template-columns:minmax(5rem,11rem) minmax(0,1fr);gap:.4rem 1rem;align-items:center}
dl.heard dt{overflow-wrap:anywhere}dl.heard dd{margin:0}small{font-size:.9rem;display:block}
audio{width:100%;max-width:30rem;min-width:9rem}
@media print{audio{display:none}}
"""
_INTRODUCTION = "Each recording was turned into tokens, and spoken again from nothing but those of the layers named."
_OWN = "They are of another manifest than the vocoder was trained on."
_HELD_OUT = "The vocoder was not trained on these utterances."
_TITLES = {ORIGINAL: "original", GRIFFIN_LIM: "original, by Griffin-Lim"}


def page(found: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], pictures: Sequence[Picture]) -> bytes:
    """Write the page.

    Args:
        found: ``metrics.json``.
        examples: Of each utterance that is heard ``utterance_id``, ``text``, ``speaker``, and ``recordings``, FLAC by
            condition.
        pictures: ``utterance_0.png`` and following; none where matplotlib is not installed.
    """
    title = "Speech from tokens"
    sections = [("listen", "Listen"), ("figures", "Figures"), ("differences", "Differences"), ("about", "About")]
    parts = ['<h2 id="listen">Listen</h2>', note(f"{_INTRODUCTION} {_OWN if found['side'] == 'all' else _HELD_OUT}")]
    for number, example in enumerate(examples):
        parts.append(example_part(number, example, found["sets"], pictures))
    parts += ['<h2 id="figures">Figures</h2>', figures_part(found)]
    parts += ['<h2 id="differences">Differences</h2>', differences_part(found)]
    parts += ['<h2 id="about">About</h2>', _about(found)]
    if not pictures:
        parts.append("<p>No pictures: matplotlib was not installed; the extra <code>plots</code> has it.</p>")
    return document(title, sections, parts, style=STYLE, media=True)


def example_part(
    number: int, example: Mapping[str, Any], sets: Mapping[str, Sequence[str]], pictures: Sequence[Picture]
) -> str:
    """Write one utterance with a player per condition, and its picture."""
    lines = []
    for condition, data in example["recordings"].items():
        title = _TITLES.get(condition, condition)
        told = f"{title}: {', '.join(sets[condition])}" if condition in sets else title
        source = f"data:audio/flac;base64,{base64.b64encode(data).decode()}"
        label = text(f"{example['utterance_id']}, {told}")
        player = f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio>'
        layers = sets.get(condition, [condition])
        heard = "" if list(layers) == [condition] else f"<small>{text(', '.join(layers))}</small>"
        lines.append(f"<dt>{text(title)} {heard}</dt><dd>{player}</dd>")
    said = "" if example["text"] is None else f'<p lang="en"><bdi>{text(example["text"])}</bdi></p>'
    heading = f"<h3><bdi>{text(example['utterance_id'])}</bdi></h3>"
    return f'{heading}{said}<dl class="heard">{"".join(lines)}</dl>{figure(pictures, f"utterance_{number}.png")}'


def figures_part(found: Mapping[str, Any]) -> str:
    """Write the table of all conditions, and what could not be judged."""
    caption = "Means or error rates, with 95 % bootstrap intervals over utterances"
    told = "".join(note(line) for line in unjudged_lines(found))
    return table(caption, ["condition", *_headings(found)], _rows(found, "conditions")) + told


def differences_part(found: Mapping[str, Any], what: str = "set of layers") -> str:
    """Write what each condition has more than the first; ``what`` says what a condition is."""
    if not found["differences"]:
        return note(f"There is one {what} alone.")
    caption = (
        f"What a {what} has more than {found['compared_with']}, over the utterances that both have, with 95 % "
        "bootstrap intervals"
    )
    return table(caption, [what, *_headings(found)], _rows(found, "differences"))


def _rows(found: Mapping[str, Any], what: str) -> list[list[str]]:
    names = [measure["name"] for measure in found["measures"]]
    return [[told["condition"], *(_cell(told["figures"][name]) for name in names)] for told in found[what]]


def _headings(found: Mapping[str, Any]) -> list[str]:
    return [
        f"{measure['name']}{', ' + measure['unit'] if measure['unit'] else ''} "
        f"({'higher' if measure['higher_is_better'] else 'lower'} is better)"
        for measure in found["measures"]
    ]


def _cell(told: Mapping[str, Any]) -> str:
    interval = told["interval"]
    if interval is None:
        return "none"
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def unjudged_lines(found: Mapping[str, Any]) -> list[str]:
    """Say which figures lack utterances, and why."""
    lines = []
    for told in found["conditions"]:
        missing: dict[str, list[str]] = {}
        for name, each in told["figures"].items():
            for reason, count in each["unjudged"].items():
                missing.setdefault(f"{count} {reason}", []).append(name)
        lines += [f"{told['condition']}, {', '.join(names)}: {why}" for why, names in missing.items()]
    return lines


def judge_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say which libraries judged."""
    return [
        (f"judge {name}", f"{told['name']} {told['version']}")
        for name, told in found["libraries"].items()
        if told is not None
    ]


def _about(found: Mapping[str, Any]) -> str:
    lines = [(name, str(found[name])) for name in ("vocoder", "arch", "parameters", "side", "utterances")]
    lines += [("left out", ", ".join(f"{why} {count}" for why, count in found["left_out"].items() if count) or "none")]
    lines += [(f"{name} (SHA-256)", found[f"{name}_sha256"]) for name in ("vocoder", "input", "manifest")]
    lines += [(f"mean weight of {name}", f"{weight:.3f}") for name, weight in found["layer_use"].items()]
    lines += judge_lines(found)
    return table("What was evaluated", ["what", "value"], [list(line) for line in lines], words=True)
