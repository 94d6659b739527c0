"""Time tokenize_corpus against what people use, all in one run: same audio, weights, layers, codebooks, threads.

    python -m bench.encoder_stage [--models hubert-base wavlm-base-plus small] [--minutes 10] [--json FILE]

Contenders (bench/contenders.py): a, a bare loop over the same batches, waveforms in memory, nothing quantised: the
ceiling; b, jobs/tokenize_corpus.py from audio files to Parquet; c, fairseq's way, a run for each layer, through the
whole network or, as "c cut", up to that layer; d, SpeechBrain's way. a and b run in each of --dtypes, c and d in
float32, which is all they know. a and b have --processes of --threads; c and d divide the same threads among
--loop-processes, of which these programs know one. Runs of c through the whole network cost the same for each layer.
Contender e gives the features of six layers in one pass, and of the highest of them alone, batch by batch in turn.
Loading of a, c, d and e is not in their seconds. For b two lines are printed: the whole stage, and without its start;
both hold the second pass over some audio that measures agreement. Shares of the peak are of float32 matrix products
of as many processes and threads, measured in the same run, in every dtype.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import saved_tokens
from bench.measuring import run_together, table, write_json
from bench.workload import MODELS, Workload, prepare, read_tokens, run_job, share_equal
from pipeline.features.encoders.info import describe

DTYPES = ("float32", "bfloat16")
HEADER = ("model", "contender", "seconds", "x real time", "GFLOP / s audio", "of sgemm peak", "load s", "peak MiB")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the cores are used.

    Attributes:
        processes: Encoder processes of ours and of the bare loop.
        threads: Threads of each.
        loop_processes: Processes that share the same threads in the loops people use.
        batch_seconds: Padded seconds in a batch, of ours and of the bare loop.
    """

    processes: int
    threads: int
    loop_processes: int
    batch_seconds: float

    @property
    def loop_threads(self) -> int:
        """Threads of one loop process."""
        return max(1, self.processes * self.threads // self.loop_processes)


def loop(
    name: str, work: Workload, layers: Sequence[int], output: Path, shape: Shape, **more: object
) -> dict[str, Any]:
    """Time one contender of bench/contenders.py; its children end with what they measured of themselves."""
    ours = name in ("bare", "peak", "one_pass")
    children = shape.processes if ours else shape.loop_processes
    threads = shape.threads if ours else shape.loop_threads
    common = {"contender": name, "encoder": str(work.encoder), "manifest": str(work.manifest), "layers": list(layers)}
    common |= {"codebooks": str(work.codebooks), "threads": threads, "batch_seconds": shape.batch_seconds}
    common |= more
    settings = []
    for child in range(children):
        folder = output / f"{name}-{child}"
        folder.mkdir(parents=True, exist_ok=True)
        settings.append({**common, "output": str(folder), "child": child, "children": children})
    found = run_together("bench.contenders", settings, threads=threads, as_workers=ours)
    each = found["children"]
    return {
        "seconds": found["seconds"],
        "load_seconds": max(child["load_seconds"] for child in each),
        "peak_bytes": max(child["peak_bytes"] for child in each),
        "flops_per_audio_second": max(child.get("flops_per_audio_second", 0.0) for child in each),
        "flops_per_second": sum(child.get("flops_per_second", 0.0) for child in each),
        "children": each,
    }


def one_layer_runs(work: Workload, output: Path, shape: Shape, runs: int, *, cut: bool) -> dict[str, Any]:
    """Time fairseq's way: one run for each layer, or for some of them, multiplied and marked as such.

    Args:
        work: What to work on.
        output: Folder for what the runs write.
        shape: How the cores are used.
        runs: How many layers to run.
        cut: Whether the network ends at the layer.
    """
    chosen = work.layers if runs >= len(work.layers) else _spread(work.layers, runs)
    found = [loop("one_layer", work, [layer], output, shape, cut=cut) for layer in chosen]
    scale = len(work.layers) / len(chosen)
    return {
        "seconds": scale * sum(run["seconds"] for run in found),
        "load_seconds": scale * sum(run["load_seconds"] for run in found),
        "peak_bytes": max(run["peak_bytes"] for run in found),
        "flops_per_audio_second": scale * sum(run["flops_per_audio_second"] for run in found),
        "runs": len(chosen),
        "runs_needed": len(work.layers),
    }


def six_layers(work: Workload, output: Path, shape: Shape, *, dtype: str) -> dict[str, Any]:
    """Time the features of six layers in one pass, spread over the whole network, against those of the highest alone.

    Returns:
        The layers, the seconds of all and of the highest, and the first over the second as ``ratio``.
    """
    depth = describe(str(work.encoder)).num_layers
    layers = sorted({-(-depth * part // 6) for part in range(1, 7)})
    each = loop("one_pass", work, layers, output, shape, dtype=dtype)["children"]
    seconds = {name: sum(child["seconds_of"][name] for child in each) for name in ("all", "highest")}
    return {"layers": layers, **seconds, "ratio": seconds["all"] / seconds["highest"]}


def _spread(layers: Sequence[int], runs: int) -> list[int]:
    """Choose layers from the middle outwards, so that their mean depth is that of all."""
    middle = (len(layers) - 1) / 2
    order = sorted(range(len(layers)), key=lambda place: (abs(place - middle), place))
    return [layers[place] for place in sorted(order[: max(1, runs)])]


def ours(work: Workload, output: Path, shape: Shape, dtype: str, runner: str) -> dict[str, Any]:
    """Run the job and take its own report."""
    report = run_job(
        "tokenize_corpus",
        *("--manifest", work.manifest, "--encoder", work.encoder, "--codebooks", work.codebooks),
        *("--output", output, "--batch-seconds", shape.batch_seconds, "--dtype", dtype),
        *("--num-workers", shape.processes, "--threads-per-worker", shape.threads, "--runner", runner),
    )
    start = report["startup_seconds"]
    return {
        "seconds": report["wall_seconds"] - start,
        "wall_seconds": report["wall_seconds"],
        "load_seconds": start,
        "peak_bytes": report["make_peak_bytes"],
        "decode_peak_bytes": report["load_peak_bytes"],
        "driver_peak_bytes": report["driver_peak_bytes"],
        # Of the time that all encoders had, from the start of each to the last commit.
        "agreement_share": report["waiting"]["reference"],
        "report": report,
    }


def run_model(model: str, given: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """Prepare one model and run every contender on it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = prepare(
            folder,
            model=model,
            corpus=given.corpus,
            minutes=given.minutes,
            layers=_layers(given.layers, model),
            num_clusters=given.clusters,
        )
        _say(f"{model}: {work.seconds:.0f} s of audio, layers {list(work.layers)}")
        found: dict[str, Any] = {"model": model, "audio_seconds": work.seconds, "layers": list(work.layers)}
        found["peak"] = loop("peak", work, work.layers, folder, shape)["flops_per_second"]
        for dtype in given.dtypes:
            bare, whole = _named("a", dtype), _named("b", dtype)
            if "a" in given.contenders:
                found[bare] = loop("bare", work, work.layers, folder, shape, dtype=dtype)
                _say(f"{bare}: {found[bare]['seconds']:.1f} s")
            if "b" in given.contenders:
                found[whole] = ours(work, folder / f"tokens-{dtype}", shape, dtype, given.runner)
                found[whole]["flops_per_audio_second"] = found.get(bare, {}).get("flops_per_audio_second", 0.0)
                _say(f"{whole}: {found[whole]['seconds']:.1f} s")
            if "e" in given.contenders:
                found[_named("e", dtype)] = six_layers(work, folder, shape, dtype=dtype)
        if "c" in given.contenders:
            for key, cut in (("c", False), ("c cut", True)):
                found[key] = one_layer_runs(work, folder, shape, given.c_runs or len(work.layers), cut=cut)
                _say(f"{key}: {found[key]['seconds']:.1f} s")
        if "d" in given.contenders:
            found["d"] = loop("all_layers", work, work.layers, folder, shape)
            _say(f"d: {found['d']['seconds']:.1f} s")
        if {"b", "d"} <= found.keys():
            theirs = {}
            for child in range(shape.loop_processes):
                theirs |= dict(saved_tokens(folder / f"all_layers-{child}"))
            found["tokens_equal"] = share_equal(read_tokens(folder / "tokens-float32", work.layers), theirs)
    return found | {"ratios": ratios(found)}


def _layers(layers: Sequence[int], model: str) -> list[int]:
    """Keep the layers that the model has."""
    return [layer for layer in layers if layer <= (6 if model.endswith("small") else 12)]


def _named(contender: str, dtype: str) -> str:
    return contender if dtype == "float32" else f"{contender} {dtype}"


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Compare seconds: a over b, and c and d over b, with b's start left out and with it; above 1, b is faster."""
    given = {}
    for dtype in DTYPES:
        whole = _named("b", dtype)
        for other in (_named("a", dtype), "c", "c cut", "d"):
            if found.keys() >= {whole, other}:
                given[f"{other}/{whole}"] = found[other]["seconds"] / found[whole]["seconds"]
                given[f"{other}/{whole} with start"] = found[other]["seconds"] / found[whole]["wall_seconds"]
    return given


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Lay one model's contenders out as rows of the table; b has a second one with its start."""
    titles = {"c": "c one layer a run", "c cut": "c cut at the layer", "d": "d all layers"}
    for dtype in reversed(DTYPES):
        titles = {_named("a", dtype): f"a bare loop, {dtype}", _named("b", dtype): f"b ours, {dtype}"} | titles
    rows = []
    for key, title in titles.items():
        if key not in found:
            continue
        each = found[key]
        if each.get("runs", 0) < each.get("runs_needed", 0):
            title += f" ({each['runs']} of {each['runs_needed']} runs, scaled)"
        rows.append(_line(found, each, title, each["seconds"]))
        if "wall_seconds" in each:
            rows.append(_line(found, each, f"{title}, start included", each["wall_seconds"]))
    return rows


def _line(found: dict[str, Any], each: dict[str, Any], title: str, seconds: float) -> list[str]:
    speed = found["audio_seconds"] / seconds
    flops = each["flops_per_audio_second"]
    return [
        found["model"],
        title,
        f"{seconds:.1f}",
        f"{speed:.2f}",
        f"{flops / 1e9:.1f}" if flops else "unknown",
        f"{flops * speed / found['peak']:.0%}" if flops else "unknown",
        f"{each['load_seconds']:.1f}",
        f"{each['peak_bytes'] / 2**20:.0f}",
    ]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Run every contender on every model; print a table and the ratios."""
    from pipeline.features.passes.settings import EncodingSettings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS[:3]))
    parser.add_argument("--corpus", default="librispeech", help="librispeech, fsdd, synthetic, or a folder of audio")
    parser.add_argument("--minutes", type=float, default=10.0, help="the first minutes of it")
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 3, 5, 7, 9], help="those that a model has")
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--contenders", nargs="+", choices="abcde", default=list("abcde"))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="of a, b and e")
    parser.add_argument("--c-runs", type=int, help="run c for so many layers and multiply; marked in the table")
    parser.add_argument("--runner", choices=("here", "ray"), default="here", help="of b; auto is here up to an hour")
    parser.add_argument("--threads", type=int, default=1, help="of an encoder process")
    parser.add_argument("--processes", type=int, help="encoder processes; default: one for each thread of the machine")
    parser.add_argument("--loop-processes", type=int, default=1, help="processes of c and d, which share the threads")
    parser.add_argument("--batch-seconds", type=float, default=EncodingSettings.batch_seconds)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    shape = Shape(
        processes=given.processes or max(1, (os.cpu_count() or 1) // given.threads),
        threads=given.threads,
        loop_processes=given.loop_processes,
        batch_seconds=given.batch_seconds,
    )
    found = [run_model(model, given, shape) for model in given.models]
    print(table(HEADER, [row for each in found for row in lines(each)]))
    for each in found:
        parts = [f"{name} {value:.2f}" for name, value in each["ratios"].items()]
        parts += [
            f"agreement took {each[name]['agreement_share']:.1%} of {name}'s encoders"
            for name in (_named("b", dtype) for dtype in DTYPES)
            if name in each
        ]
        parts += [
            f"{len(each[name]['layers'])} layers in one pass take {each[name]['ratio']:.3f} of the time of layer "
            f"{each[name]['layers'][-1]} alone in {dtype}"
            for dtype in DTYPES
            if (name := _named("e", dtype)) in each
        ]
        parts += [f"tokens of b and d equal {each['tokens_equal']:.4%}"] if "tokens_equal" in each else []
        print(f"{each['model']}: sgemm peak {each['peak'] / 1e9:.0f} GFLOP/s; " + ", ".join(parts))
    write_json(given.json, {"shape": vars(shape), "models": found})


if __name__ == "__main__":
    main()
