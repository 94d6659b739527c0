"""Time vocoders beside transformers' SpeechT5HifiGan, synthesize beside a bare loop, and the memory of long inputs.

    python -m bench.vocoder [--parts generators corpus memory] [--threads 1] [--dtypes float32] [--json FILE]

"generators": for each preset an utterance of --seconds from tokens to its waveform, weights random, weight norm folded,
and a SpeechT5HifiGan with as many parameters as the preset's generator, the same hop and upsampling, from mel frames to
a waveform. Both and large float32 matrix products run in turns for --rounds; times are medians, ratios and shares of
the matmul peak are medians over rounds. FLOP of an inverse STFT's own transform are not counted.
"corpus": `synthesize` of vocoder_small over --minutes of random tokens, one worker in its process (--runner here), and
in turns the loop over the same batches with the tokens in memory, nothing rounded, encoded or written. Both may use
--threads CPUs and no more, because synthesize would write one shard while it speaks the next. Loading is in neither,
nor is the manifest of the speech. "memory": one utterance of each of --lengths minutes, each in a process of its own, in pieces.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.measuring import run_child, table, write_json
from bench.vocoder_workload import PRESETS, write_corpus, write_vocoder_folder
from bench.workload import run_job

PARTS = ("generators", "corpus", "memory")
DTYPES = ("float32", "bfloat16")
CORPUS_PRESET = "vocoder_small"
GENERATORS = (
    *("preset", "dtype", "M parameters", "x real time", "SpeechT5HifiGan, M", "x real time", "ratio"),
    *("GFLOP / s audio", "of matmul peak", "SpeechT5HifiGan's"),
)
MEMORY = ("preset", "minutes", "peak MiB", "waveform MiB", "peak without it")


def generators(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time each preset in each dtype."""
    found = []
    for preset in given.presets:
        for dtype in given.dtypes:
            settings = {"part": "generator", "preset": preset, "dtype": dtype}
            settings |= {name: getattr(given, name) for name in ("threads", "rounds", "seconds")}
            each = run_child("bench.vocoder_parts", settings, threads=given.threads)
            found.append({"preset": preset, "dtype": dtype, **each})
            print(table(GENERATORS, [_line(found[-1])]), flush=True)
    return found


def _line(each: dict[str, Any]) -> list[str]:
    speed, share, parameters = (each[name] for name in ("times_real_time", "share_of_peak", "parameters"))
    return [
        each["preset"],
        each["dtype"],
        f"{parameters['ours'] / 1e6:.2f}",
        f"{speed['ours']:.1f}",
        f"{parameters['rival'] / 1e6:.2f}",
        f"{speed['rival']:.1f}",
        f"{each['ratio']:.2f}",
        f"{each['gflop_per_audio_second']['ours']:.2f}",
        f"{share['ours']:.2f}",
        f"{share['rival']:.2f}",
    ]


def corpus(given: argparse.Namespace) -> dict[str, Any]:
    """Speak a corpus both ways in turns, on as many CPUs as there are threads."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cpus)[: given.threads])
    try:
        return _corpus(given)
    finally:
        os.sched_setaffinity(0, cpus)


def _corpus(given: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[float]] = {"bare": [], "synthesize": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens, vocoder = folder / "tokens", folder / "vocoder"
        write_corpus(tokens, given.minutes, CORPUS_PRESET)
        write_vocoder_folder(vocoder, CORPUS_PRESET)
        for turn in range(given.corpus_rounds):
            settings = {"part": "bare", "tokens": str(tokens), "vocoder": str(vocoder), "threads": given.threads}
            bare = run_child("bench.vocoder_parts", settings, threads=given.threads)
            runs["bare"].append(bare["seconds"])
            report = run_job(
                "synthesize",
                *("--tokens", tokens, "--vocoder", vocoder, "--output", folder / f"speech-{turn}"),
                *("--runner", "here", "--num-workers", 1, "--threads-per-worker", given.threads),
            )
            runs["synthesize"].append(report["wall_seconds"] - report["startup_seconds"])
            print({name: round(seconds[-1], 2) for name, seconds in runs.items()}, flush=True)
    audio = bare["audio_seconds"]
    ratios = [ours / theirs for ours, theirs in zip(runs["bare"], runs["synthesize"], strict=True)]
    return {
        "audio_seconds": audio,
        "seconds": runs,
        "times_real_time": {name: audio / statistics.median(each) for name, each in runs.items()},
        "ratio": statistics.median(ratios),
        "last_report": report,
    }


def memory(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each length with each preset that is asked for."""
    found = []
    for preset in given.memory_presets:
        with tempfile.TemporaryDirectory() as name:
            write_vocoder_folder(Path(name), preset)
            for minutes in given.lengths:
                settings = {"part": "memory", "vocoder": name, "minutes": minutes, "threads": given.threads}
                each = run_child("bench.vocoder_parts", settings, threads=given.threads)
                found.append({"preset": preset, **each})
                print(found[-1], flush=True)
    return found


def _memory_line(each: dict[str, Any]) -> list[str]:
    peak, waveform = each["peak_bytes"] / 2**20, each["waveform_bytes"] / 2**20
    return [each["preset"], f"{each['minutes']:g}", f"{peak:.0f}", f"{waveform:.1f}", f"{peak - waveform:.0f}"]


def main() -> None:
    """Measure the parts that are asked for, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS), help="of generators")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"], help="of generators")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="of generators")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the utterance of generators")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the corpus")
    parser.add_argument("--corpus-rounds", type=int, default=5)
    parser.add_argument("--lengths", nargs="+", type=float, default=[1.0, 30.0], help="minutes of the long inputs")
    parser.add_argument("--memory-presets", nargs="+", choices=PRESETS, default=["vocoder_small"])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    found: dict[str, Any] = {"threads": given.threads}
    if "generators" in given.parts:
        found["generators"] = generators(given)
        print(table(GENERATORS, [_line(each) for each in found["generators"]]))
    if "corpus" in given.parts:
        spoken = found["corpus"] = corpus(given)
        speed = spoken["times_real_time"]
        print(
            f"{spoken['audio_seconds'] / 60:.1f} minutes: synthesize {speed['synthesize']:.0f} times real time, the "
            f"bare loop {speed['bare']:.0f}; ratio {spoken['ratio']:.3f}"
        )
    if "memory" in given.parts:
        found["memory"] = memory(given)
        print(table(MEMORY, [_memory_line(each) for each in found["memory"]]))
    write_json(given.json, found)


if __name__ == "__main__":
    main()
