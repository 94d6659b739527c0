"""A study against its commands one by one: what side by side, and parts that are made once, are worth.

    python -m bench.study_time --data DATA [--trials-at-once 2] [--steps 60] [--json FILE]

DATA holds ``fsdd``. The study identifies six speakers: layers 2, 6 and 2 4 6, K = 50, 100 and 200, two seeds, ten
trials in all. Beside it the same manifest, features, codebooks, tokens, trainings and evaluations are made by their own
jobs, each a process as a person would start it, one after the other, each part once. Both begin with an empty folder; a
trial computes in one thread in both. Tells how long a trial took to its first step on the warm cluster, too.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measuring import table, write_json
from bench.workload import run_job
from pipeline.audio.stage import BuildManifestConfig
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.settings import Settings
from pipeline.store.storage import open_store
from pipeline.study.planning.trials import Trial, flags, plan_trials, unlike
from pipeline.study.ran import read_ran
from pipeline.study.settings import RunStudyConfig
from pipeline.study.stage import read_named
from pipeline.tokens.settings import TokenizeCorpusConfig

JOBS: dict[type[Settings], str] = {
    BuildManifestConfig: "build_manifest",
    ExtractFeaturesConfig: "extract_features",
    FitKmeansConfig: "fit_kmeans",
    TokenizeCorpusConfig: "tokenize_corpus",
}
STUDY = """
name = "time"
seeds = [0, 1]

[encoders.encoder-small]
layers = [2, 4, 6]

[corpora.fsdd]
corpus = "fsdd"
layout = "fsdd"

[centre]
encoder = "encoder-small"
layers = [2, 4, 6]
num_clusters = 100
codebooks_of = ["own"]

[tasks.sid]
corpus = "fsdd"
preset = "sid_small"
num_steps = {steps}
warmup_steps = 10
validate_every = {half}
batch_seconds = 20.0

[factors.layers]
levels.low = {{ layers = [2] }}
levels.high = {{ layers = [6] }}
levels.all = {{ layers = [2, 4, 6] }}

[factors.num_clusters]
levels.50 = {{ num_clusters = 50 }}
levels.100 = {{ num_clusters = 100 }}
levels.200 = {{ num_clusters = 200 }}
"""


def planned(study: Path, data: Path, output: Path) -> tuple[list[Trial], list[Settings]]:
    """Give the trials of a study, and the settings of what they share."""
    # In one process, as a person would for minutes of audio: Ray's start costs more than each of these.
    config = RunStudyConfig.of(study=str(study), data=str(data), output=str(output), runner="here").located()
    trials, parts = plan_trials(read_named(str(study))[1], config)
    return unlike(trials), [part.config for part in parts.all()]


def one_by_one(trials: Sequence[Trial], parts: Sequence[Settings]) -> float:
    """Run the commands; gives the seconds."""
    began = time.monotonic()
    for part in parts:
        run_job(JOBS[type(part)], *flags(part))
    for trial in trials:
        run_job("train_task", *flags(trial.training))
        run_job("evaluate", *flags(trial.evaluation))
    return time.monotonic() - began


def together(study: Path, data: Path, output: Path, at_once: int) -> float:
    """Run the study on Ray; gives the seconds, Ray's start included."""
    began = time.monotonic()
    places = ("--study", study, "--data", data, "--output", output)
    # Parts are small, and made in the driver's process; trials are for Ray.
    run_job("run_study", *places, "--runner", "here", "--max-hours", 1e-9)
    run_job("run_study", *places, "--runner", "ray", "--trials-at-once", at_once)
    return time.monotonic() - began


def overheads(trials: Sequence[Trial]) -> list[float]:
    """Give the seconds from the start of each trial to its first step, the least first."""
    ran = [read_ran(open_store(trial.folder)) for trial in trials]
    return sorted(each.overhead_seconds for each in ran if each is not None)


def main() -> None:
    """Run both, and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials-at-once", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study, data = Path(folder) / "study.toml", given.data.resolve()
        study.write_text(STUDY.format(steps=given.steps, half=given.steps // 2))
        seconds = together(study, data, Path(folder) / "study", given.trials_at_once)
        trials, _ = planned(study, data, Path(folder) / "study")
        waited = overheads(trials)
        alone = one_by_one(*planned(study, data, Path(folder) / "alone"))
    found: dict[str, Any] = {
        "trials": len(trials), "study_seconds": seconds, "one_by_one_seconds": alone, "ratio": seconds / alone,
        "overhead_seconds": waited,
    }  # fmt: skip
    middle = waited[len(waited) // 2]
    print(
        table(
            ("trials", "study, s", "one by one, s", "ratio", "to the first step, s, in the middle", "at most"),
            [[str(len(trials)), f"{seconds:.0f}", f"{alone:.0f}", f"{found['ratio']:.2f}", f"{middle:.1f}",
              f"{waited[-1]:.1f}"]],
        )
    )  # fmt: skip
    print(json.dumps(found))
    write_json(given.json, found)


if __name__ == "__main__":
    main()
