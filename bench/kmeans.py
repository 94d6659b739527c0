"""Time fit_kmeans against the K-means people use: same rows, same first centroids, same threads, same judge.

    python -m bench.kmeans [--shapes hubert small] [--folder DIR] [--repeats 3] [--json FILE]

Shapes: hubert, 200,000 x 768, K = 1000, HuBERT-base with random weights over LibriSpeech and spoken digits; small,
1,000,000 x 192, K = 500, the small random encoder over these and emotional speech, clean and noisy. --encoder takes
a trained one. Making the features takes minutes, which --folder saves the next time.

Contenders: faiss, superkmeans, sklearn and minibatch are those of bench/kmeans_contenders.py, --threads each.
ours, jobs/fit_kmeans.py with --threads workers of one thread from the same first centroids; own-seeds, with its own
k-means++; one-worker, with one; out-of-core, with a --memory-per-worker so small that a worker's rows are
--times-budget of it. Seconds are of the whole fit with the rows loaded, for ours with Ray and everything else after
its actors hold the rows; a second line has the start too. minibatch is killed after --cap seconds, and then runs once
more with one k-means++, so that there is an inertia. Each runs --repeats times, one that was killed no more, and the
fastest counts.

Inertia is of the final centroids, computed in float64 by one function for all. "s to 1.001" is the time until the
inertia is within a thousandth of what faiss ends with, interpolated between iterations.
Memory is the peak after loading: of ours that of driver, workers and object store together, beside float16 rows.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.kmeans_contenders import exact_inertia
from bench.kmeans_workload import SHAPES, KmeansWorkload, Shape, num_rows, prepare
from bench.measuring import run_together, table, write_json
from bench.memory import sampled_run

THEIRS = ("faiss", "superkmeans", "sklearn", "minibatch")
OURS = ("ours", "own-seeds", "one-worker", "out-of-core")
HEADER = ("shape", "contender", "seconds", "iterations", "inertia", "of faiss's", "s to 1.001", "peak MiB")
GOALS = {
    "seconds ours / faiss": "at most 0.7",
    "seconds ours / superkmeans": "at most 1",
    "inertia ours / faiss": "within 0.1 %",
    "inertia ours / sklearn": "within 0.5 %",
    "seconds minibatch / own-seeds, to minibatch's inertia": "at least 20",
    "seconds one-worker / ours": "at least 1.8 with 2",
    "memory out-of-core / budget": "at most 1.2",
    "seconds out-of-core / ours": "",
}
_CLOSE = 1.001
_ITERATION = re.compile(r"K-means: iteration of ([\d.]+) s")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the contenders run.

    Attributes:
        iterations: Iterations of those that begin with given centroids.
        threads: Threads of a contender; workers of ours, of one thread each.
        cap_seconds: When minibatch is killed.
        times_budget: A worker's rows out of core, in units of its memory budget.
    """

    iterations: int
    threads: int
    cap_seconds: float
    times_budget: float


def theirs(name: str, work: KmeansWorkload, output: Path, given: Settings) -> dict[str, Any]:
    """Time one program of bench/kmeans_contenders.py.

    Raises:
        TimeoutError: It is minibatch and had not ended at the cap.
    """
    settings: dict[str, Any] = {"contender": name, "num_clusters": work.num_clusters, "output": f"{output}.npy"}
    settings |= {"rows": str(work.rows), "seeds": str(work.seeds), "seed_places": str(work.seed_places)}
    settings |= {"iterations": given.iterations, "threads": given.threads}
    cap = given.cap_seconds if name.startswith("minibatch") else None
    run = run_together("bench.kmeans_contenders", [settings], threads=given.threads, cap_seconds=cap)
    found = {"seconds": run["seconds"], **run["children"][0]}
    if found["ends"]:
        # Before its first iteration a program copies, rotates or checks the rows.
        before = max(0.0, found["seconds"] - found["ends"][-1])
        found["ends"] = [before, *(before + end for end in found["ends"])]
    return found | {"final_inertia": exact_inertia(work.rows, np.load(settings["output"]))}


def run_ours(work: KmeansWorkload, output: Path, given: Settings, *flags: object) -> dict[str, Any]:
    """Run the job and give its report with ``peaks``; flags win over those from ``given``."""
    return sampled_run(
        "fit_kmeans",
        "--verbose",
        *("--features", work.features, "--output", output, "--num-clusters", work.num_clusters),
        *("--max-iterations", given.iterations, "--tolerance", 0, "--num-workers", given.threads),
        *flags,
        log=Path(f"{output}.log"),
    )


def ours(work: KmeansWorkload, output: Path, given: Settings, *flags: object, seeded: bool = True) -> dict[str, Any]:
    """Run the job and take its own report, codebook and memory.

    Args:
        work: What to work on.
        output: Folder of the codebooks.
        given: How to run.
        flags: Further flags, which win over those from ``given``.
        seeded: Whether it begins with the given centroids.
    """
    from pipeline.kmeans.read_codebooks import read_codebooks

    seeds = ("--init-codebooks", work.seed_codebooks) if seeded else ()
    report = run_ours(work, output, given, *seeds, *flags)
    book = read_codebooks(str(output))[0]
    each = [float(seconds) for seconds in _ITERATION.findall(Path(f"{output}.log").read_text())]
    start = report["notes"]["load_seconds"]
    seconds = report["wall_seconds"] - start
    peaks = report["peaks"]
    return {
        "seconds": seconds,
        "wall_seconds": report["wall_seconds"],
        "start_seconds": start,
        "fit_seconds": report["notes"]["fit_seconds"],
        "iterations": len(book.inertia),
        "inertia": book.inertia.tolist(),
        # What the first iteration waited for is a choice of first centroids; what follows the last is small.
        "ends": (seconds - sum(each) + np.cumsum([0.0, *each])).tolist(),
        "final_inertia": exact_inertia(work.rows, book.centroids),
        "peak_bytes": peaks["driver"] + peaks["all workers, own"] + peaks["object store"],
        "worker_peak_bytes": peaks["largest worker, own"],
        "report": report,
    }


def out_of_core(work: KmeansWorkload, output: Path, given: Settings) -> dict[str, Any]:
    """Run ours on a small budget, and on hardly any rows to see what a worker takes without any."""
    rows = np.load(work.rows, mmap_mode="r")
    budget = rows.nbytes / given.threads / given.times_budget
    found = ours(work, output, given, "--memory-per-worker", budget / 1e9)
    few = ("--features", work.few_features, "--max-iterations", 2)
    empty = run_ours(work, Path(f"{output}-few"), given, *few)["peaks"]["largest worker, own"]
    few_bytes = rows.itemsize * rows.shape[1] * num_rows(work.few_features)
    beyond = found["worker_peak_bytes"] - (empty - few_bytes)
    return found | {"budget_bytes": budget, "beyond_empty_bytes": beyond}


def run_contender(name: str, work: KmeansWorkload, output: Path, given: Settings) -> dict[str, dict[str, Any]]:
    """Run a contender once; minibatch may give a second one."""
    if name == "ours":
        return {name: ours(work, output, given)}
    if name == "own-seeds":
        return {name: ours(work, output, given, seeded=False)}
    if name == "one-worker":
        return {name: ours(work, output, given, "--num-workers", 1)}
    if name == "out-of-core":
        return {name: out_of_core(work, output, given)}
    try:
        return {name: theirs(name, work, output, given)}
    except TimeoutError:
        found = {name: {"seconds": given.cap_seconds, "capped": True}}
    try:
        return found | {"minibatch_once": theirs("minibatch_once", work, output, given)}
    except TimeoutError:
        return found | {"minibatch_once": {"seconds": given.cap_seconds, "capped": True}}


def run_shape(shape: Shape, folder: Path, names: Sequence[str], given: Settings, repeats: int) -> dict[str, Any]:
    """Prepare one shape and run every contender on it in turn, as often as asked for."""
    work = prepare(folder, shape)
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            for name in names:
                if any(run.get("capped") for run in runs.get(name, [])):
                    continue
                output = Path(scratch) / f"{name}-{repeat}"
                for key, run in run_contender(name, work, output, given).items():
                    _say(f"{shape.name}, {key}: {run['seconds']:.2f} s")
                    runs.setdefault(key, []).append(run)
    contenders = {}
    for key, each in runs.items():
        seconds = [run["seconds"] for run in each]
        contenders[key] = each[int(np.argmin(seconds))] | {"all_seconds": seconds}
    found = {"shape": vars(shape), "seeds_inertia": exact_inertia(work.rows, np.load(work.seeds))}
    return {**found, "contenders": contenders, "ratios": ratios(contenders)}


def reached(fit: dict[str, Any], target: float) -> float | None:
    """Give the seconds until a fit's centroids have an inertia, interpolated between iterations; None for never.

    Args:
        fit: ``seconds``, ``final_inertia``, ``inertia`` before each iteration and ``ends``, when it began: the time
            from which centroids of that inertia were there. The last end belongs to the final inertia.
        target: Inertia to reach.
    """
    if fit.get("capped") or min([fit["final_inertia"], *fit["inertia"]]) > target:
        return None
    if not fit["ends"]:
        return float(fit["seconds"])
    values = [*fit["inertia"], fit["final_inertia"]]
    first = next(place for place, value in enumerate(values) if value <= target)
    if first == 0:
        return float(fit["ends"][0])
    share = (values[first - 1] - target) / (values[first - 1] - values[first])
    return float(fit["ends"][first - 1] + share * (fit["ends"][first] - fit["ends"][first - 1]))


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Compare the contenders that ran, under the names of ``GOALS``."""
    given = {}
    for name, one, other in (
        ("seconds ours / faiss", "ours", "faiss"),
        ("seconds ours / superkmeans", "ours", "superkmeans"),
        ("seconds one-worker / ours", "one-worker", "ours"),
        ("seconds out-of-core / ours", "out-of-core", "ours"),
    ):
        if {one, other} <= found.keys():
            given[name] = found[one]["seconds"] / found[other]["seconds"]
    for other in ("faiss", "sklearn"):
        if {"ours", other} <= found.keys():
            given[f"inertia ours / {other}"] = found["ours"]["final_inertia"] / found[other]["final_inertia"]
    if "out-of-core" in found:
        each = found["out-of-core"]
        given["memory out-of-core / budget"] = each["beyond_empty_bytes"] / each["budget_bytes"]
    if {"minibatch", "own-seeds"} <= found.keys() and (seconds := _to_minibatch(found)) is not None:
        given["seconds minibatch / own-seeds, to minibatch's inertia"] = found["minibatch"]["seconds"] / seconds
    return given


def _to_minibatch(found: dict[str, dict[str, Any]]) -> float | None:
    """Give the seconds in which own-seeds reaches what minibatch ended with, or a single k-means++ of it."""
    goal = found["minibatch_once" if found["minibatch"].get("capped") else "minibatch"]
    if goal.get("capped"):
        return None
    return reached(found["own-seeds"], goal["final_inertia"])


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Lay one shape's contenders out as rows of the table; ours have a second one with their start."""
    contenders, name = found["contenders"], found["shape"]["name"]
    reference = contenders.get("faiss", {}).get("final_inertia")
    rows = []
    for key, fit in contenders.items():
        if fit.get("capped"):
            rows.append([name, key, f"over {fit['seconds']:.0f}", *["unknown"] * 5])
            continue
        share, time_to = "unknown", "unknown"
        if reference:
            seconds = reached(fit, _CLOSE * reference)
            share = f"{fit['final_inertia'] / reference:.5f}"
            time_to = "never" if seconds is None else f"{seconds:.2f}"
        rest = [str(fit["iterations"]), f"{fit['final_inertia']:.6g}", share]
        rows.append([name, key, f"{fit['seconds']:.2f}", *rest, time_to, f"{fit['peak_bytes'] / 2**20:.0f}"])
        if fit.get("start_seconds"):
            rows.append([name, f"{key}, start included", f"{fit['wall_seconds']:.2f}", *rest, "", ""])
    return rows


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _shape(name: str, given: argparse.Namespace) -> Shape:
    changed = {"encoder": given.encoder, "layer": given.layer}
    changed |= {"corpora": tuple(given.corpora) if given.corpora else None}
    changed |= {"frames": given.frames, "num_clusters": given.clusters}
    return replace(SHAPES[name], **{key: value for key, value in changed.items() if value is not None})


def main() -> None:
    """Run every contender on every shape; print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--contenders", nargs="+", choices=THEIRS + OURS, default=list(THEIRS + OURS))
    parser.add_argument("--iterations", type=int, default=20, help="of all but minibatch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of a contender; workers of ours")
    parser.add_argument("--repeats", type=int, default=1, help="of each contender; the fastest counts")
    parser.add_argument("--cap", type=float, default=600.0, help="seconds after which minibatch is killed")
    parser.add_argument("--times-budget", type=float, default=4.0, help="rows of a worker out of core, in its budgets")
    parser.add_argument("--folder", type=Path, help="where features are made, or are since the last time")
    parser.add_argument("--encoder", help="Hugging Face name or local folder, instead of random weights")
    parser.add_argument("--layer", type=int, help="layer of it")
    parser.add_argument("--corpora", nargs="+", help="librispeech, fsdd, emodb, or folders of audio")
    parser.add_argument("--frames", type=int, help="rows (n), instead of the shape's")
    parser.add_argument("--clusters", type=int, help="clusters (K), instead of the shape's")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    settings = Settings(
        iterations=given.iterations,
        threads=given.threads,
        cap_seconds=given.cap,
        times_budget=given.times_budget,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        found = [
            run_shape(_shape(name, given), folder, given.contenders, settings, given.repeats) for name in given.shapes
        ]
    print(table(HEADER, [row for each in found for row in lines(each)]))
    for each in found:
        for name, value in each["ratios"].items():
            goal = f" ({GOALS[name]})" if GOALS[name] else ""
            print(f"{each['shape']['name']}: {name} {value:.5g}{goal}")
    write_json(given.json, {"settings": vars(settings), "shapes": found})


if __name__ == "__main__":
    main()
