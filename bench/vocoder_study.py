"""One vocoder for every set of layers against one vocoder per layer, on one real voice; goes on where it was.

    python -m bench.vocoder_study --data DATA --output study [--steps 8000] [--seeds 1] [--discriminators-from 8000]

DATA holds ``cmu_arctic/cmu_us_slt_arctic`` (44 minutes of one speaker, with transcripts). Its tokens are those of
encoder-small, layers 2, 4 and 6, with the codebooks that ship, K = 500. The scalable vocoder is trained with
``--seeds`` seeds, and one vocoder per layer with the first; all have the same generator, steps and data. Each is judged
on the same utterances, which none of them heard; differences are of all seeds together. Two trainings at a time with
``--at-once 2``. Prints tables and writes ``vocoders.md``.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.measuring import table
from bench.study_corpora import ARCTIC_LINE
from bench.workload import run_job
from pipeline.metrics.uncertainty import bootstrap_interval, difference, rate

LAYERS = (2, 4, 6)
SCALABLE = "scalable_"
TEST_FRACTION = 0.07
"""Utterances that judge: twice the default, for intervals that can tell two vocoders apart."""
MEASURES = ("stft_distance", "log_mel_distance", "mcd", "f0_correlation", "stoi", "dnsmos_ovrl",
            "speaker_similarity", "wer")  # fmt: skip


def job(name: str, **settings: Any) -> dict[str, Any]:
    """Run a job to its end and give its report; one that was finished has nothing to do."""
    flags: list[object] = []
    for flag, value in settings.items():
        flags += [f"--{flag.replace('_', '-')}", *(value if isinstance(value, tuple) else (value,))]
    return run_job(name, *flags)


def listing(data: Path, folder: Path) -> Path:
    """List the recordings of the voice with what is said."""
    voice = data / "cmu_arctic" / "cmu_us_slt_arctic"
    lines = [
        json.dumps({"path": str(voice / "wav" / f"{name}.flac"), "utterance_id": name, "speaker": "slt", "text": said})
        for name, said in ARCTIC_LINE.findall((voice / "etc" / "txt.done.data").read_text())
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "slt.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def prepare(data: Path, folder: Path) -> None:
    """Make manifest and tokens."""
    job("build_manifest", corpus=listing(data, folder), layout="listing", roots=data, output=folder / "manifest")
    job("tokenize_corpus", manifest=folder / "manifest", encoder="encoder-small", layers=LAYERS,
            codebooks="encoder-small", num_clusters=500, output=folder / "tokens", runner="here")  # fmt: skip


def vocoders(seeds: int) -> dict[str, dict[str, Any]]:
    """Name the vocoders, with what each is told."""
    found: dict[str, dict[str, Any]] = {f"{SCALABLE}{seed}": {"seed": seed} for seed in range(seeds)}
    return found | {f"layer_{layer:02d}_alone": {"seed": 0, "layers": (layer,)} for layer in LAYERS}


def make(folder: Path, name: str, settings: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Train and judge one."""
    inputs = {"tokens": folder / "tokens", "manifest": folder / "manifest"}
    job("train_vocoder", preset="vocoder_small", output=folder / name, runner="here", threads_per_worker=1,
            **inputs, **training, **settings)  # fmt: skip
    job("evaluate", vocoder=folder / name, output=folder / f"{name}_judged", **inputs)


def rows_of(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give each vocoder and condition with its figures."""
    for name in names:
        found = json.loads((folder / f"{name}_judged" / "metrics.json").read_text())
        for told in found["conditions"]:
            yield name, told["condition"], told["figures"]


Judged = tuple[tuple[str, ...], str]
"""Vocoders that differ in their seed alone, and a condition."""


def sums(folder: Path, judged: Judged, measure: str) -> dict[str, tuple[float, float]]:
    """Give each utterance's sum of a measure over the vocoders, and what divides it: words for WER, else vocoders."""
    found: dict[str, tuple[float, float]] = {}
    names, condition = judged
    for name in names:
        for row in pq.read_table(folder / f"{name}_judged" / "utterances.parquet").to_pylist():
            if row["condition"] != condition or row[measure] is None:
                continue
            of_row = (row["wer_errors"], row["wer_length"]) if measure == "wer" else (row[measure], 1.0)
            before = found.get(row["utterance_id"], (0.0, 0.0))
            found[row["utterance_id"]] = (before[0] + of_row[0], before[1] + of_row[1])
    return found


def versus(folder: Path, first: Judged, second: Judged, measure: str) -> str:
    """Say what the first has more than the second, over the same utterances, with its interval over utterances."""
    sides = [sums(folder, judged, measure) for judged in (first, second)]
    shared = [name for name in sides[0] if name in sides[1]]
    statistics = [rate(*(np.array([side[name][part] for name in shared]) for part in (0, 1))) for side in sides]
    found = bootstrap_interval(difference(*statistics), len(shared), draws=1000)
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _value(figure: Mapping[str, Any] | None) -> float | None:
    interval = None if figure is None else figure["interval"]
    return None if interval is None else float(interval["value"])


def over_seeds(folder: Path, names: Sequence[str]) -> list[list[object]]:
    """Give mean and standard deviation of each condition over the vocoders of all seeds."""
    by_condition: dict[str, list[Mapping[str, Any]]] = {}
    for _, condition, figures in rows_of(folder, names):
        by_condition.setdefault(condition, []).append(figures)
    rows: list[list[object]] = []
    for condition, several in by_condition.items():
        cells = []
        for measure in MEASURES:
            values = np.array([value for each in several if (value := _value(each.get(measure))) is not None])
            spread = f" +- {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}" if len(values) else "")
        rows.append([condition, *cells])
    return rows


def report(folder: Path, names: Sequence[str]) -> str:
    """Write the tables."""
    rows = [
        [
            name,
            condition,
            *(f"{value:.3f}" if (value := _value(figures.get(each))) is not None else "" for each in MEASURES),
        ]
        for name, condition, figures in rows_of(folder, names)
    ]
    seeds = tuple(name for name in names if name.startswith(SCALABLE))
    whole, shown = (seeds, "all"), ("stft_distance", "stoi", "dnsmos_ovrl", "speaker_similarity", "wer")
    others: list[Judged] = [(seeds, f"layer_{layer:02d}") for layer in LAYERS]
    alone: list[Judged] = [((f"layer_{layer:02d}_alone",), "all") for layer in LAYERS]
    against = [
        ("all layers minus", [(f"{pair[0][0]} {pair[1]}", whole, pair) for pair in (*others, *alone)]),
        (
            "a layer minus a vocoder of it alone",
            [(own[0][0], one, own) for one, own in zip(others, alone, strict=True)],
        ),
    ]
    parts = [table(("vocoder", "condition", *MEASURES), rows)]
    parts.append(table((f"{len(seeds)} seed(s)", *MEASURES), over_seeds(folder, seeds)))
    for title, compared in against:
        lines = [[name, *(versus(folder, *pair, each) for each in shown)] for name, *pair in compared]
        parts.append(table((title, *shown), lines))
    return "\n\n".join(parts)


def main() -> None:
    """Prepare, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--discriminators-from", type=int)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1)
    given = parser.parse_args()
    prepare(given.data, given.output)
    training = {"num_steps": given.steps, "warmup_steps": 100, "lr": given.lr, "test_fraction": TEST_FRACTION,
                "validate_every": 500, "checkpoint_every": 250, "log_every": 250,
                "discriminators_from": given.discriminators_from or given.steps}  # fmt: skip
    named = vocoders(given.seeds)
    with ThreadPoolExecutor(given.at_once) as pool:
        list(pool.map(lambda each: make(given.output, *each, training), named.items()))
    told = report(given.output, list(named))
    (given.output / "vocoders.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
