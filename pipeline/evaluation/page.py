"""An evaluation of a task as one HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.batches.pools import left_out_lines
from pipeline.evaluation.facts import SAID
from pipeline.evaluation.html import document, figure, table, text
from pipeline.evaluation.picture import Picture


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
    title = f"Evaluation: {text(figures['task'])}, fusion {text(figures['fusion'])}"
    sections = [("metrics", "Metrics"), ("layer-use", "Layer use"), ("over-time", "Weights over time")]
    parts = [_facts(figures)]
    if not pictures:
        parts.append("<p>No plots: matplotlib was not installed; the extra <code>plots</code> has it.</p>")
    parts += ['<h2 id="metrics">Metrics</h2>', _metrics(figures)]
    parts += [_confusion(side, told, pictures) for side, told in figures["sides"].items() if "confusion" in told]
    parts += between
    parts += ['<h2 id="layer-use">Layer use</h2>', _layer_use(use, pictures)]
    parts += ['<h2 id="over-time">Weights over time</h2>', _examples(use, pictures)]
    return document(title, sections, parts)


def _facts(figures: Mapping[str, Any]) -> str:
    lines = [("layers", ", ".join(figures["layers"])), ("encoder", figures["encoder"])]
    lines += [(f"{name} (SHA-256)", figures[f"{name}_sha256"]) for name in ("model", "input", "manifest")]
    if figures["decoding"] is not None:
        lines.append(("decoding", ", ".join(f"{name} {value}" for name, value in figures["decoding"].items())))
    return table("What was evaluated", ["what", "value"], [[name, str(value)] for name, value in lines], words=True)


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
        found += f"<p>{text(side)}: {told['utterances']:,} utterances; {text(out)}.</p>"
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
    found = figure(pictures, f"confusion_{side}.png", long=False)
    return found + table(f"Confusion, {side}: row is the class, column what it was taken for", ["is", *names], rows)


def _layer_use(use: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    if use["reason"] is not None:
        return f"<p>None: {text(use['reason'])}.</p>"
    parts = []
    for side, told in use["sides"].items():
        parts.append(figure(pictures, f"layer_use_{side}.png", long=False))
        groups = [("all", told["all"])]
        for what in ("by_label", "by_speaker"):
            groups += [(f"{what.removeprefix('by_')} {name}", found) for name, found in told[what].items()]
        rows = [[name, str(found["utterances"]), *_weights(found)] for name, found in groups]
        head = ["of", "utterances", *use["layers"], "entropy", "per frame"]
        caption = (
            f"Mean weight of each layer, {side} (plus or minus the standard deviation over utterances), entropy of the "
            "means and mean entropy of frames as shares of the highest possible"
        )
        parts += [table(caption, head, rows), figure(pictures, f"layer_use_by_label_{side}.png", long=False)]
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
        rows = [[name, _said(example[name])] for name in ("side", *SAID) if name in example]
        if example["symbols"] is not None:
            rows.append(["greedy path, seconds", _path(example["symbols"])])
        parts.append(f"<h3><bdi>{text(example['utterance_id'])}</bdi></h3>")
        parts.append(figure(pictures, f"over_time_{number}.png"))
        if example["recording"]["reason"] is not None:
            parts.append(f"<p>No spectrogram: {text(example['recording']['reason'])}</p>")
        parts.append(table("What was said of it", ["what", "value"], rows, words=True))
    return "\n".join(parts)


def _said(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _path(symbols: Sequence[Mapping[str, Any]]) -> str:
    names = ("(space)" if one["symbol"] == " " else one["symbol"] for one in symbols)
    return ", ".join(f"{name} {one['seconds']:.2f}" for name, one in zip(names, symbols, strict=True)) or "blanks alone"
