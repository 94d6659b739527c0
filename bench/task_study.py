"""The informed layer selector against its baselines on small real corpora: one command that goes on where it was.

    python -m bench.task_study --data DATA --output study [--corpora digits read fsdd speakers emodb] [--seeds 3]

DATA holds LibriSpeech, cmu_arctic, fsdd and emodb (``bench/study_corpora.py`` says how they lie). Each corpus is
tokenised by encoder-small, layers 1 to 6, with codebooks of its own frames. Every way of fusing is trained and
evaluated on the same sides, two runs at a time, a thread each. What is finished is not made again.

    digits    asr on connected digits: takes 0 to 4 of FSDD are the test, the speaker theo is heard nowhere (unseen)
    read      asr on read speech of 253 voices, tested on 26 that training never hears
    fsdd      sid on single digits, six speakers, takes 0 to 4 are the test
    speakers  sid on 251 speakers, tested on another stretch of the one recording of each
    emodb     er, leaving each speaker out in turn

Attention, features and the best single layer get ``--seeds`` seeds, everything else one. The best single layer is
chosen by its result on the test with the first seed, which favours it. Prints a table and writes ``study.json``,
``study.md`` and ``layer_use.png``.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.study_corpora import CORPORA, Corpus, divisions, prepare
from bench.study_table import best_single, draw_layer_use, markdown, summaries
from pipeline.errors import PipelineError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task

LAYERS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way of fusing.

    Attributes:
        name: As the table shows it.
        settings: What train_task is told.
        on_features: Whether it sees features instead of tokens.
        on_centroids: Whether embeddings are the centroids, frozen: then nothing but the weights can choose a layer.
        seeds: Whether it is trained with every seed, or with the first alone.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_features: bool = False
    on_centroids: bool = False
    seeds: bool = False


CONTENDERS = (
    Contender(name="attention", seeds=True),
    *(Contender(name=f"layer {n}", settings={"fusion": "single", "fusion_layer": f"layer_{n:02d}"}) for n in LAYERS),
    Contender(name="mean", settings={"fusion": "mean"}),
    Contender(name="weighted", settings={"fusion": "weighted"}),
    Contender(name="concat", settings={"fusion": "concat"}),
    Contender(name="attention, frozen centroids", on_centroids=True, seeds=True),
    Contender(name="features", on_features=True, seeds=True),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training and its evaluation.

    Attributes:
        corpus: Name of the corpus.
        contender: How it fuses.
        division: Name of the division.
        sides: What train_task is told of the division.
        seed: Of the training.
        places: Datasets of the corpus.
        folder: Where it is written.
    """

    corpus: str
    contender: Contender
    division: str
    sides: Mapping[str, Any]
    seed: int
    places: Mapping[str, str]
    folder: Path


def run(trial: Trial) -> list[dict[str, Any]]:
    """Train and evaluate, in one thread; gives a result per test side."""
    import torch

    torch.set_num_threads(1)
    corpus, kind = CORPORA[trial.corpus], "features" if trial.contender.on_features else "tokens"
    settings = {**corpus.settings, **trial.sides, **trial.contender.settings}
    if trial.contender.on_centroids:
        settings |= {"embedding_init": "centroids", "freeze_embedding": True, "codebooks": trial.places["codebooks"]}
    told, began = trial.folder / "minutes.json", time.monotonic()
    train_task(
        TrainTaskConfig.of(
            task=corpus.task, output=str(trial.folder / "model"), manifest=trial.places["manifest"], runner="here",
            threads_per_worker=1, seed=trial.seed, algorithm="adam", weight_decay=0.0, warmup_steps=20,
            num_steps=corpus.steps, validate_every=corpus.steps // 5, checkpoint_every=corpus.steps,
            **{kind: trial.places[kind]}, **settings,
        )
    )  # fmt: skip
    test = trial.folder / "test"
    evaluate(EvaluateConfig.of(model=str(trial.folder / "model"), output=str(test), examples=0))
    if not told.exists():
        told.write_text(json.dumps((time.monotonic() - began) / 60))
    metrics, use = (json.loads((test / f"{name}.json").read_text()) for name in ("metrics", "layer_use"))
    return [
        {
            "corpus": trial.corpus, "contender": trial.contender.name, "division": trial.division, "seed": trial.seed,
            "side": side, "minutes": json.loads(told.read_text()),
            "metrics": {name: found["value"] for name, found in measured["metrics"].items()},
            "utterances": measured["utterances"],
            "layer_use": use["sides"][side]["all"]["mean"] if side in use["sides"] else None,
        }
        for side, measured in metrics["sides"].items()
    ]  # fmt: skip


def trials(corpus: Corpus, places: Mapping[str, str], output: Path, seeds: Sequence[int],
           names: Sequence[str]) -> Iterator[Trial]:  # fmt: skip
    """Give the trials of some contenders with some seeds."""
    for contender in CONTENDERS:
        if contender.name in names:
            for seed in seeds:
                for division, sides in divisions(corpus, places["manifest"]):
                    folder = (
                        output
                        / "runs"
                        / corpus.name
                        / contender.name.replace(", ", "_").replace(" ", "_")
                        / division
                        / str(seed)
                    )
                    yield Trial(corpus=corpus.name, contender=contender, division=division, sides=sides, seed=seed,
                                places=places, folder=folder)  # fmt: skip


def study(corpora: Sequence[str], data: Path, output: Path, seeds: int, processes: int) -> list[dict[str, Any]]:
    """Run what is missing; gives all results."""
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for corpus in (CORPORA[name] for name in corpora):
            places = prepare(corpus, data, output)
            firsts = trials(corpus, places, output, [0], [each.name for each in CONTENDERS])
            found += _all(pool, list(firsts))
            again = [each.name for each in CONTENDERS if each.seeds] + [best_single(found, corpus)]
            found += _all(pool, list(trials(corpus, places, output, range(1, seeds), again)))
            (output / "study.json").write_text(json.dumps(found, indent=1))
            print(markdown(summaries(found)), flush=True)
    return found


def _all(pool: ProcessPoolExecutor, these: Sequence[Trial]) -> list[dict[str, Any]]:
    found, asked = [], {pool.submit(run, trial): trial for trial in these}
    for number, done in enumerate(as_completed(asked), start=1):
        trial = asked[done]
        try:
            results = done.result()
        except PipelineError as error:
            raise SystemExit(f"{trial.folder}: {error}") from error
        found += results
        shown = ", ".join(f"{each['side']} {each['metrics']}" for each in results)
        print(f"{trial.corpus} {number}/{len(asked)}: {trial.contender.name} {trial.division} seed {trial.seed}: "
              f"{shown}, {results[0]['minutes']:.1f} min", flush=True)  # fmt: skip
    order = {trial.folder: place for place, trial in enumerate(these)}
    return sorted(found, key=lambda each: order[_folder(each, these[0])])


def _folder(result: Mapping[str, Any], like: Trial) -> Path:
    root = like.folder.parents[2]
    return root / result["contender"].replace(", ", "_").replace(" ", "_") / result["division"] / str(result["seed"])


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", choices=list(CORPORA), default=list(CORPORA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    found = study(given.corpora, given.data.resolve(), output, given.seeds, given.processes)
    told = summaries(found)
    (output / "study.md").write_text(markdown(told) + "\n")
    draw_layer_use(told, output / "layer_use.png")
    print(markdown(told))


if __name__ == "__main__":
    main()
