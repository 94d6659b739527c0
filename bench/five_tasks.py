"""Layer use of the five tasks on tokens of one encoder and one set of codebooks: one picture.

    python -m bench.five_tasks --data DATA --enhancement enhancement --output five_tasks [--seed 0] [--encoder E]

``--enhancement`` is the folder of ``bench.enhancement_study``: its tokens of read speech, layers 1 to 6, its codebooks
and its mixtures are used here too. Recognition, speaker identification, enhancement and text to speech are trained on
them, emotion recognition on EmoDB, tokenised with the same codebooks. Embeddings are the centroids, frozen: where they
are trained, a layer can be heard more by longer vectors, and its weight does not show it. Steps are few: about three
minutes a task. Prints a table and writes ``five_tasks.md`` and ``five_tasks.png``; goes on where it was.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bench.measuring import table
from bench.study_corpora import LAYERS, write_listing
from bench.vocoder_study import job

HERE = {"runner": "here"}
METRICS = {"asr": "wer", "sid": "accuracy", "er": "uar", "se": "token_error_rate", "tts": "token_error_rate"}
STEPS = {"asr": 1500, "sid": 300, "er": 100, "se": 500, "tts": 500}
SETTINGS: dict[str, dict[str, Any]] = {
    "asr": {"lr": 3e-3, "batch_seconds": 20.0},
    "sid": {"lr": 2e-3, "batch_seconds": 30.0, "crop_seconds": 2.0},
    "er": {"lr": 1e-3, "batch_seconds": 30.0, "class_weights": "inverse", "test_speakers": ("08",)},
    "se": {},
    "tts": {},
}
"""What a task is told beside its preset."""


def tokenize(enhancement: Path, encoder: str, manifest: Path, output: Path) -> Path:
    """Tokenise with the codebooks of read speech."""
    job("tokenize_corpus", manifest=manifest, encoder=encoder, layers=LAYERS, num_clusters=500,
            codebooks=enhancement / "read" / "codebooks", output=output, **HERE)  # fmt: skip
    return output


def prepare(data: Path, enhancement: Path, folder: Path, encoder: str) -> dict[str, dict[str, Path]]:
    """Make what is not there yet, and give the datasets of each task."""
    listing = write_listing("speakers", data, folder)
    job("build_manifest", corpus=listing, layout="listing", roots=data, output=folder / "speakers", **HERE)
    job("build_manifest", corpus=data / "emodb", layout="emodb", output=folder / "emodb", **HERE)
    read = {"manifest": enhancement / "read" / "manifest", "tokens": enhancement / "read" / "tokens"}
    made = {
        name: {
            "manifest": folder / name,
            "tokens": tokenize(enhancement, encoder, folder / name, folder / f"{name}_tokens"),
        }
        for name in ("speakers", "emodb")
    }
    noisy = {"manifest": enhancement / "noisy" / "_manifest", "tokens": enhancement / "noisy_tokens"}
    clean = {f"clean_{name}": place for name, place in read.items()}
    return {"asr": read, "sid": made["speakers"], "er": made["emodb"], "se": noisy | clean, "tts": read}


def train(enhancement: Path, folder: Path, task: str, inputs: dict[str, Path], seed: int) -> dict[str, Any]:
    """Train and evaluate one task; gives its metric and the weight of each layer on the test."""
    model, judged = folder / task, folder / f"{task}_test"
    frozen = {"embedding_init": "centroids", "embedding_dim": 192, "freeze_embedding": (),
              "codebooks": enhancement / "read" / "codebooks"}  # fmt: skip
    job("train_task", preset=f"{task}_small", output=model, num_steps=STEPS[task], seed=seed, threads_per_worker=1,
            validate_every=STEPS[task] // 5, **SETTINGS[task], **frozen, **inputs, **HERE)  # fmt: skip
    job("evaluate", model=model, output=judged, examples=0, sides="test")
    figures = json.loads((judged / "metrics.json").read_text())["sides"]["test"]
    use = json.loads((judged / "layer_use.json").read_text())["sides"]["test"]["all"]
    return {"metric": figures["metrics"][METRICS[task]]["value"], "weights": use["mean"]}


def draw(found: dict[str, list[float]], path: Path) -> None:
    """Draw the weights: a group of bars per task, a bar per layer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colormaps, pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    count = len(LAYERS)
    for place, layer in enumerate(LAYERS):
        where = [number + (place - (count - 1) / 2) * 0.8 / count for number in range(len(found))]
        axes.bar(where, [weights[place] for weights in found.values()], 0.8 / count, label=f"layer {layer}",
                 color=colormaps["viridis"](place / (count - 1)))  # fmt: skip
    axes.axhline(1 / count, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("mean weight")
    figure.legend(ncols=count, fontsize="small", frameon=False, loc="outside lower center")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prepare, train, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--enhancement", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="encoder-small", help="that of the enhancement study")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    weights, rows = {}, []
    for task, inputs in prepare(given.data, given.enhancement, given.output, given.encoder).items():
        found = train(given.enhancement, given.output, task, inputs, given.seed)
        weights[task] = found["weights"]
        rows.append([task, f"{METRICS[task]} {found['metric']:.3f}", *(f"{weight:.3f}" for weight in weights[task])])
    draw(weights, given.output / "five_tasks.png")
    told = table(("task", "test", *(f"layer {layer}" for layer in LAYERS)), rows)
    (given.output / "five_tasks.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
