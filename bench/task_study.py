"""The informed layer selector against its baselines on small real corpora: one command that goes on where it was.

    python -m bench.task_study --data DATA --output study [--corpora emodb fsdd digits] [--seeds 3] [--steps 150]

DATA holds ``fsdd`` and ``emodb`` in their own layouts. Each corpus is tokenised by encoder-small, layers 1 to 6, with
200 clusters of its own frames; every way of fusing is trained and evaluated on the same sides. What is finished is not
made again.

    digits   asr on connected digits: takes 0 to 4 of FSDD are the test, the speaker theo is heard nowhere (side unseen)
    fsdd     sid on single digits, six speakers, the same test
    emodb    er, leaving each speaker out in turn

Prints a row per corpus, fusion and side: mean and standard error over seeds (emodb: over seeds, of the mean over
speakers), and writes it all to ``study.json``.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measuring import table
from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.loading import Manifest
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.metrics.uncertainty import over_seeds
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

LAYERS = (1, 2, 3, 4, 5, 6)
ENCODER = {"encoder": "encoder-small", "runner": "here"}
METRIC = {"digits": "wer", "fsdd": "accuracy", "emodb": "uar"}
TASK = {"digits": "asr", "fsdd": "sid", "emodb": "er"}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way of fusing.

    Attributes:
        name: As the table shows it.
        settings: What train_task is told.
        on_features: Whether it sees features instead of tokens.
        seeds: Whether it is trained with every seed, or with the first alone.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_features: bool = False
    seeds: bool = False


CONTENDERS = (
    Contender(name="attention", seeds=True),
    *(Contender(name=f"layer {n}", settings={"fusion": "single", "fusion_layer": f"layer_{n:02d}"}) for n in LAYERS),
    Contender(name="mean", settings={"fusion": "mean"}),
    Contender(name="weighted", settings={"fusion": "weighted"}),
    Contender(name="concat", settings={"fusion": "concat"}),
    Contender(name="features, weighted", settings={"fusion": "weighted"}, on_features=True, seeds=True),
)


def prepare(name: str, data: Path, output: Path) -> dict[str, str]:
    """Make the manifest, features and tokens of a corpus; gives their places."""
    if name == "digits":
        return _digits(prepare("fsdd", data, output), output / "digits")
    folder = output / name
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(data / name), layout=name, output=str(folder), layers=LAYERS, num_clusters=200,
            all_features=True, **ENCODER,
        )
    )  # fmt: skip
    return {kind: str(folder / kind) for kind in ("manifest", "tokens", "features", "codebooks")}


def _digits(single: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Join single digits to utterances of four to seven, each digit used three times."""
    places = {kind: str(folder / kind) for kind in ("manifest", "tokens", "features")} | {
        "codebooks": single["codebooks"]
    }
    concatenate_corpus(
        ConcatenateCorpusConfig(manifest=single["manifest"], output=places["manifest"], passes=3, seed=0)
    )
    common = {"manifest": places["manifest"], "layers": LAYERS, **ENCODER}
    extract_features(ExtractFeaturesConfig.of(output=places["features"], **common))
    tokenize_corpus(
        TokenizeCorpusConfig.of(
            output=places["tokens"], codebooks=places["codebooks"], features=places["features"], **common
        )
    )
    return places


def divisions(name: str, manifest: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the divisions of a corpus, each with a name and settings."""
    if name == "emodb":
        speakers = sorted(
            {row for _, rows in Manifest(manifest).scan(["speaker"]) for row in rows["speaker"].to_pylist()}
        )
        for speaker in speakers:
            yield f"without-{speaker}", {"test_speakers": (speaker,), "class_weights": "inverse"}
    else:
        yield "takes", {"unseen_speakers": ("theo",)} if name == "digits" else {}


def run_one(name: str, places: Mapping[str, str], contender: Contender, division: dict[str, Any], seed: int,
            folder: Path, steps: int) -> dict[str, Any]:  # fmt: skip
    """Train and evaluate; gives metrics and layer use by side."""
    inputs = {"manifest": places["manifest"]}
    inputs["features" if contender.on_features else "tokens"] = places[
        "features" if contender.on_features else "tokens"
    ]
    # Digits are many and learned slowly; emotions are few.
    steps = steps * {"digits": 4, "fsdd": 2, "emodb": 1}[name]
    train_task(
        TrainTaskConfig.of(
            task=TASK[name], output=str(folder / "model"), num_steps=steps, validate_every=steps // 5, warmup_steps=20,
            algorithm="adam", lr=2e-3 if name == "digits" else 1e-3, weight_decay=0.0, checkpoint_every=steps,
            runner="here", threads_per_worker=2, seed=seed, **inputs, **division, **contender.settings,
        )
    )  # fmt: skip
    evaluate(EvaluateConfig.of(model=str(folder / "model"), output=str(folder / "test"), examples=0))
    found = {name: json.loads((folder / "test" / f"{name}.json").read_text()) for name in ("metrics", "layer_use")}
    return found


def rows_of(found: list[dict[str, Any]]) -> list[list[str]]:
    """Lay results out: a row per corpus, side and contender."""
    rows = []
    keys = dict.fromkeys((each["corpus"], each["side"], each["contender"]) for each in found)
    for corpus, side, contender in keys:
        mine = [
            each for each in found if (each["corpus"], each["side"], each["contender"]) == (corpus, side, contender)
        ]
        seeds = sorted({each["seed"] for each in mine})
        values = [statistics.fmean(each["value"] for each in mine if each["seed"] == seed) for seed in seeds]
        summary = over_seeds(values)
        error = "" if len(values) == 1 else f" +- {summary.standard_error:.3f}"
        rows.append([corpus, side, contender, METRIC[corpus], f"{summary.mean:.3f}{error}", str(len(values))])
    return rows


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", choices=list(TASK), default=list(TASK))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name in given.corpora:
        places = prepare(name, given.data.resolve(), given.output.resolve())
        for contender in CONTENDERS:
            for seed in range(given.seeds if contender.seeds else 1):
                for division, settings in divisions(name, places["manifest"]):
                    folder = (
                        given.output.resolve() / "runs" / name / contender.name.replace(" ", "_") / division / str(seed)
                    )
                    result = run_one(name, places, contender, settings, seed, folder, given.steps)
                    for side, metrics in result["metrics"]["sides"].items():
                        value = metrics["metrics"][METRIC[name]]["value"]
                        found.append({"corpus": name, "side": side, "contender": contender.name, "seed": seed,
                                      "division": division, "value": value})  # fmt: skip
                    (given.output / "study.json").write_text(json.dumps(found, indent=1))
                    print(table(("corpus", "side", "fusion", "metric", "value", "seeds"), rows_of(found)), flush=True)


if __name__ == "__main__":
    main()
