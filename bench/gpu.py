"""Measure this machine's GPU with everything that Strata runs on one, and its agreement with the CPU; needs no Ray.

    python -m bench.gpu [--device auto] [--parts peak encoder quantise fuser vocoder agreement] [--json FILE]

It needs torch, transformers, numpy and pyarrow, and the repository: nothing is downloaded, weights are random, but for
"agreement", which takes the encoder and codebooks that ship. Without a GPU it measures the CPU. Parts:
"peak": products of large matrices, of which the others are given as shares. "encoder": a batch through this system's
encoder, from waveforms in memory to float16 features there, and through transformers with its attention eager and sdpa.
"quantise": nearest centroids by each engine that runs here, and a first step of K-means. "fuser", "vocoder": training
steps. "agreement": tokens equal to those of float32 on the CPU. Times are medians of --rounds calls after one.
"""

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import gpu_parts
from bench.gpu_parts import Bench, Line
from bench.measuring import table, write_json

PARTS = ("peak", "encoder", "quantise", "fuser", "vocoder", "agreement")
DTYPES = ("float32", "bfloat16")
HEADER = ("part", "what", "dtype", "value", "unit", "of the peak", "GPU MiB", "note")


def lines(given: argparse.Namespace, bench: Bench) -> Iterator[Line]:
    """Measure the parts that are asked for."""
    if "peak" in given.parts:
        for dtype, peak in bench.peaks.items():
            yield Line(part="peak", what="matrix products", dtype=dtype, value=peak / 1e12, unit="TFLOP per second")
    if "encoder" in given.parts:
        yield from gpu_parts.encoders(bench, given.encoders, given.dtypes, given.seconds, given.batch)
    if "quantise" in given.parts:
        for num_clusters in given.num_clusters:
            yield from gpu_parts.search(bench, num_clusters, given.dim, given.rows)
    if "fuser" in given.parts:
        yield from gpu_parts.fuser(bench, given.dtypes, given.frames)
    if "vocoder" in given.parts:
        yield from gpu_parts.vocoder(bench, given.presets, given.dtypes, given.crops)
    if "agreement" in given.parts:
        yield from gpu_parts.agreement(bench, given.dtypes, given.agreement_seconds)


def cells(line: Line) -> list[str]:
    """Give a line of the table."""
    value = "" if line.value is None else f"{line.value:,.4g}" if line.value < 1e4 else f"{line.value:,.0f}"
    memory = "" if line.peak_bytes is None else f"{line.peak_bytes / 2**20:,.0f}"
    return [line.part, line.what, line.dtype, value, line.unit, "" if line.share is None else f"{line.share:.2f}",
            memory, line.note]  # fmt: skip


def about(device: str) -> dict[str, Any]:
    """Say what was measured on."""
    on_gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if on_gpu else None,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "pyarrow")},
    }


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--encoders", nargs="+", default=["hubert-base", "hubert-large", "wavlm-base", "wavlm-large"],
                      help="hubert or wavlm, and small, base or large")  # fmt: skip
    made.add_argument("--seconds", type=float, default=15.0, help="of each utterance of a batch of an encoder")
    made.add_argument("--batch", type=int, default=8, help="utterances of a batch of an encoder")
    made.add_argument("--num-clusters", nargs="+", type=int, default=[1000, 2000])
    made.add_argument("--dim", type=int, default=1024, help="width of the features to quantise")
    made.add_argument("--rows", type=int, default=200_000, help="frames to quantise")
    made.add_argument("--frames", type=int, default=20_000, help="frames of a step of the fuser")
    made.add_argument("--presets", nargs="+", default=["vocoder_base", "paper_vocoder"], help="vocoders to train")
    made.add_argument("--crops", type=int, default=16, help="of a second each, of a step of the vocoder")
    made.add_argument("--agreement-seconds", type=float, default=20.0)
    made.add_argument("--json", type=Path, help="also write the figures to this file")
    return made


def main() -> None:
    """Measure, print a table as it fills, write JSON."""
    given = parser().parse_args()
    device = given.device if given.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    found = about(device)
    print(", ".join(f"{name} {value}" for name, value in found.items() if value is not None), flush=True)
    peaks = gpu_parts.measure_peaks(device, list(dict.fromkeys(["float32", *given.dtypes])), given.rounds)
    bench, measured = Bench(device=device, rounds=given.rounds, peaks=peaks), []
    for line in lines(given, bench):
        measured.append(line)
        print("  ".join(filter(None, cells(line))), flush=True)
    print(table(HEADER, [cells(line) for line in measured]))
    write_json(given.json, {"about": found, "lines": [asdict(line) for line in measured]})


if __name__ == "__main__":
    main()
