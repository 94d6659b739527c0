"""An evaluation as one HTML file: it opens from disk, asks no network, needs no JavaScript.

Whatever comes from data is escaped, and on one line without characters that cannot be seen.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.cards.text import plain
from pipeline.evaluation.picture import Picture

_STYLE = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;background:Canvas;color:CanvasText}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem}
h1,h3,p,caption{overflow-wrap:anywhere}
nav ul{padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem}
nav a{display:inline-block;padding:.25rem 0}
:focus-visible{outline:3px solid Highlight;outline-offset:2px}
.wide{overflow-x:auto}
img{display:block;max-width:100%;min-width:30rem;height:auto;background:#fff}
img.long{max-width:none}
table{border-collapse:collapse;font-size:.9rem}
caption{text-align:left;padding:.3rem 0}
th,td{border:1px solid #8888;padding:.2rem .5rem;text-align:right;vertical-align:top}
th[scope=row],.text{text-align:left}
th[scope=row]{min-width:6rem;max-width:16rem;overflow-wrap:anywhere}td.text{overflow-wrap:anywhere;min-width:9rem}
figure{margin:1rem 0;break-inside:avoid}
@media print{body{max-width:none;font-size:11pt;padding:0}nav{display:none}.wide{overflow:visible}
table{font-size:7pt}th,td{padding:1pt 2pt;overflow-wrap:anywhere}th[scope=row],td.text{min-width:0}
img,img.long{min-width:0;max-width:100%}
h2,h3{break-after:avoid}tr{break-inside:avoid}}
"""
_CONTENTS = (
    '<nav aria-label="Contents"><ul><li><a href="#metrics">Metrics</a></li><li><a href="#layer-use">Layer use</a></li>'
    '<li><a href="#over-time">Weights over time</a></li></ul></nav>'
)
_MOST_CHARACTERS = 4_000
"""Of a transcript; a longer one is cut."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(
    figures: Mapping[str, Any], use: Mapping[str, Any], pictures: Sequence[Picture], between: Sequence[str] = ()
) -> bytes:
    """Write the page.

    Args:
        figures: ``metrics.json``.
        use: ``layer_use.json``.
        pictures: Plots; none where matplotlib is not installed.
        between: Further sections as HTML, shown between metrics and layer use.
    """
    title = f"Evaluation: {_text(figures['task'])}, fusion {_text(figures['fusion'])}"
    parts = [f"<h1>{title}</h1>", _CONTENTS, _facts(figures)]
    if not pictures:
        parts.append("<p>No plots: matplotlib was not installed; the extra <code>plots</code> has it.</p>")
    parts += ['<h2 id="metrics">Metrics</h2>', _metrics(figures)]
    parts += [_confusion(side, told, pictures) for side, told in figures["sides"].items() if "confusion" in told]
    parts += between
    parts += ['<h2 id="layer-use">Layer use</h2>', _layer_use(use, pictures)]
    parts += ['<h2 id="over-time">Weights over time</h2>', _examples(use, pictures)]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'.encode()
    )


def _text(value: Any) -> str:
    return html.escape(plain("none" if value is None else str(value), _MOST_CHARACTERS))


def _facts(figures: Mapping[str, Any]) -> str:
    lines = [("layers", ", ".join(figures["layers"])), ("encoder", figures["encoder"])]
    lines += [(f"{name} (SHA-256)", figures[f"{name}_sha256"]) for name in ("model", "input", "manifest")]
    if figures["decoding"] is not None:
        lines.append(("decoding", ", ".join(f"{name} {value}" for name, value in figures["decoding"].items())))
    return table("What was evaluated", ["what", "value"], [[name, str(value)] for name, value in lines], text=True)


def _metrics(figures: Mapping[str, Any]) -> str:
    rows = []
    for side, told in figures["sides"].items():
        for name, found in told["metrics"].items():
            rows.append([side, name, f"{found['value']:.4f}", f"{found['low']:.4f} to {found['high']:.4f}"])
    found = table(
        "Metrics by side, with 95 % bootstrap intervals over utterances", ["side", "metric", "value", "95 %"], rows
    )
    for side, told in figures["sides"].items():
        out = "; ".join(f"{label} {count}" for label, count in left_out_lines(told["left_out"])) or "none left out"
        found += f"<p>{_text(side)}: {told['utterances']:,} utterances; {_text(out)}.</p>"
    if figures["trials"] is not None:
        rows = [[name, f"{value:.4f}" if isinstance(value, float) else str(value)] for name, value in _flat(figures)]
        found += table("Trials of verification", ["figure", "value"], rows)
    return found


def _flat(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    trials = figures["trials"]
    return [(name, trials[name]) for name in ("eer", "min_dcf", "trials", "left_out")]


def _confusion(side: str, told: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    names = told["confusion"]["classes"]
    rows = [[name, *map(str, counts)] for name, counts in zip(names, told["confusion"]["counts"], strict=True)]
    found = _figure(pictures, f"confusion_{side}.png")
    return found + table(f"Confusion, {side}: row is the class, column what it was taken for", ["is", *names], rows)


def _layer_use(use: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    if use["reason"] is not None:
        return f"<p>None: {_text(use['reason'])}.</p>"
    parts = []
    for side, told in use["sides"].items():
        parts.append(_figure(pictures, f"layer_use_{side}.png"))
        groups = [("all", told["all"])]
        for what in ("by_label", "by_speaker"):
            groups += [(f"{what.removeprefix('by_')} {name}", found) for name, found in told[what].items()]
        rows = [[name, str(found["utterances"]), *_weights(found)] for name, found in groups]
        head = ["of", "utterances", *use["layers"], "entropy", "per frame"]
        caption = (
            f"Mean weight of each layer, {side} (plus or minus the standard deviation over utterances), entropy of the "
            "means and mean entropy of frames as shares of the highest possible"
        )
        parts += [table(caption, head, rows), _figure(pictures, f"layer_use_by_label_{side}.png")]
    return "\n".join(parts)


def _weights(found: Mapping[str, Any]) -> list[str]:
    pairs = zip(found["mean"], found["spread_over_utterances"], strict=True)
    shares = [f"{found['entropy_share']:.3f}", f"{found['frame_entropy_share']:.3f}"]
    return [*(f"{mean:.3f} \u00b1 {spread:.3f}" for mean, spread in pairs), *shares]


def _examples(use: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    if not use["examples"]:
        return "<p>None.</p>"
    told = (
        "Each picture has one time axis: the spectrogram, if the recording was there, above the weight of each layer."
    )
    if use["task"] == "asr":
        told += (
            " Between them are the symbols of the greedy path, each where it is likeliest. CTC itself chooses these "
            "frames: they are no boundaries of sounds. A space is shown as an open box."
        )
    parts = [f"<p>{told}</p>"]
    for number, example in enumerate(use["examples"]):
        rows = [[name, str(example[name])] for name in ("side", "reference", "hypothesis")]
        if example["symbols"] is not None:
            rows.append(["greedy path, seconds", _path(example["symbols"])])
        parts.append(f"<h3><bdi>{_text(example['utterance_id'])}</bdi></h3>")
        parts.append(_figure(pictures, f"over_time_{number}.png"))
        if example["recording"]["reason"] is not None:
            parts.append(f"<p>No spectrogram: {_text(example['recording']['reason'])}</p>")
        parts.append(table("What was said of it", ["what", "value"], rows, text=True))
    return "\n".join(parts)


def _path(symbols: Sequence[Mapping[str, Any]]) -> str:
    names = ("(space)" if one["symbol"] == " " else one["symbol"] for one in symbols)
    return ", ".join(f"{name} {one['seconds']:.2f}" for name, one in zip(names, symbols, strict=True)) or "blanks alone"


def _figure(pictures: Sequence[Picture], name: str) -> str:
    for picture in pictures:
        if picture.name == name:
            data = base64.b64encode(picture.data).decode()
            # At its own size where it is long: an utterance of 20 s cannot be read in the width of a page.
            image = f'<img class="{_kind(name)}" alt="{_text(picture.alt)}" src="data:image/png;base64,{data}">'
            return f"<figure>{_region('Picture: ' + picture.alt)}{image}</div></figure>"
    return ""


def _kind(name: str) -> str:
    return "long" if name.startswith("over_time_") else "small"


def _region(label: str) -> str:
    """Open what may be wider than the page: it scrolls by itself, also by keyboard."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{_text(label)}">'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    """Write a table whose first cells name the rows.

    Args:
        caption: What it shows.
        head: Names of the columns.
        rows: Cells; all are escaped.
        text: Whether cells are text and no numbers.
    """
    kind = ' class="text"' if text else ""
    columns = "".join(f'<th scope="col"{kind}>{_text(cell)}</th>' for cell in head)
    opened = '<td class="text" dir="auto">' if text else "<td>"
    lines = [
        f'<tr><th scope="row" dir="auto">{_text(first)}</th>'
        + "".join(f"{opened}{_text(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    body = "\n".join(lines)
    return (
        f"{_region(caption)}<table><caption>{_text(caption)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
