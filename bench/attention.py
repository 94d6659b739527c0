"""Time and memory of WavLM's attention: transformers' own form against ours on the fused kernel; HuBERT beside it.

    python -m bench.attention [--what block wavlm hubert] [--seconds 10 15 30 60] [--batches 1 4 16] [--json FILE]

``block`` is the attention of one WavLM-base block, ``wavlm`` and ``hubert`` are whole base networks with seeded
random weights. Each case runs in a child of its own, so that peak memory is its own: what the first forward pass
adds to what is there before it, the position bias included. Times are of later passes, both forms in one child
by turns, the best of --repeats. Cases that would exceed --max-gb are skipped, and named.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measuring import peak_bytes, restart_peak, run_child, seconds_of, table, write_json
from pipeline.audio.clock import Clock

HEADS, DIM, STEM, SAMPLE_RATE = 12, 768, 512, 16_000
CLOCK = Clock(sample_rate=SAMPLE_RATE, hop_length=320, receptive_field=400)
FORMS = {"block": ("transformers", "ours"), "wavlm": ("transformers", "ours"), "hubert": ("eager", "sdpa")}


def frames(seconds: float) -> int:
    """Count the frames of audio."""
    return CLOCK.num_frames(round(seconds * SAMPLE_RATE))


def expected_bytes(case: dict[str, Any]) -> float:
    """Estimate the peak of a case roughly, to skip what cannot run: a block's scores or rows, a network's stem."""
    item = 4 if case["dtype"] == "float32" else 2
    rows = case["batch"] * frames(case["seconds"])
    stem = 0 if case["what"] == "block" else 3 * case["batch"] * case["seconds"] * SAMPLE_RATE / 5 * STEM * item
    plain = case["form"] in ("transformers", "eager")
    return max(stem, item * rows * (4 * HEADS * frames(case["seconds"]) if plain else 12 * DIM))


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Measure in this process: the peak of one form, or the times of several, by turns.

    Args:
        case: ``what``, ``dtype``, ``batch``, ``seconds``, ``threads``, ``repeats``, and ``forms``; one form is asked
            for its peak, several for times.
    """
    import torch

    torch.set_num_threads(case["threads"])
    passes = {}
    with torch.inference_mode():
        for form in case["forms"]:
            torch.manual_seed(0)
            make = _block if case["what"] == "block" else _network
            passes[form] = make(case | {"form": form}, getattr(torch, case["dtype"]))
        if case["ask"] == "peak":
            first, _ = passes[case["forms"][0]]
            before = restart_peak()
            first()
            return {"peak_mb": round((peak_bytes() - before) / 1e6)}
        best = dict.fromkeys(passes, math.inf)
        for first, later in passes.values():
            first()
            later()
        for form in list(passes) * case["repeats"]:
            best[form] = min(best[form], seconds_of(passes[form][1]))
    return {f"{form}_ms": round(1e3 * seconds, 1) for form, seconds in best.items()}


def _block(case: dict[str, Any], dtype: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Give the first block's attention, which makes the bias, and that of a later block, which finds it made."""
    import torch
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    from pipeline.features.encoders.attention import GatedAttention

    attention: Any = WavLMAttention(DIM, HEADS).eval().to(dtype)
    hidden = torch.randn(case["batch"], frames(case["seconds"]), DIM, dtype=dtype)
    if case["form"] == "ours":
        attention = GatedAttention(attention)
    made: list[Any] = []

    def first() -> None:
        made[:] = [attention(hidden, None, None)[-1]]

    def later() -> None:
        attention(hidden, None, made[0])

    return first, later


def _network(case: dict[str, Any], dtype: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    import torch
    import transformers

    from pipeline.features.encoders.attention import use_sdpa

    name = {"wavlm": "WavLM", "hubert": "Hubert"}[case["what"]]
    config = getattr(transformers, f"{name}Config")(mask_time_prob=0.0)
    if case["what"] == "hubert":
        config._attn_implementation = case["form"]
    network = getattr(transformers, f"{name}Model")(config).eval().to(dtype)
    if case["form"] == "ours":
        use_sdpa(network)
    waveform = torch.randn(case["batch"], round(case["seconds"] * SAMPLE_RATE), dtype=dtype)

    def forward() -> None:
        network(waveform)

    return forward, forward


def main() -> None:
    """Measure every case and print one line for each pair of forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--seconds", nargs="+", type=float, default=[10, 15, 30, 60], help="audio in each row")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16], help="rows of a batch")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="the best of these counts")
    parser.add_argument("--max-gb", type=float, default=6.0, help="skip cases that would take more")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    cases, rows = [], []
    for what, dtype, batch, seconds in itertools.product(given.what, given.dtypes, given.batches, given.seconds):
        case = {"what": what, "dtype": dtype, "batch": batch, "seconds": seconds}
        case |= {"threads": given.threads, "repeats": given.repeats}
        cases.append(case | both(case, given.max_gb * 1e9))
        times, peaks = ([cases[-1].get(f"{form}_{unit}") for form in FORMS[what]] for unit in ("ms", "mb"))
        ratio = f"{times[0] / times[1]:.2f}" if None not in times else None
        rows.append([cell if cell is not None else "skipped" for cell in (*case.values(), *times, ratio, *peaks)])
        print(*rows[-1], file=sys.stderr)
    header = [
        "what",
        "dtype",
        "batch",
        "s",
        "threads",
        "repeats",
        "plain ms",
        "fused ms",
        "ratio",
        "plain MB",
        "fused MB",
    ]
    print(table(header, rows))
    write_json(given.json, {"cases": cases})


def both(case: dict[str, Any], max_bytes: float) -> dict[str, Any]:
    """Run the children of a case: one for each peak, one for the times of those that fit into memory."""
    fitting = [form for form in FORMS[case["what"]] if expected_bytes(case | {"form": form}) <= max_bytes]
    found = {}
    for form in fitting:
        child = run_child("bench.attention", case | {"ask": "peak", "forms": [form]}, threads=case["threads"])
        found[f"{form}_mb"] = child["peak_mb"]
    if fitting:
        found |= run_child("bench.attention", case | {"ask": "times", "forms": fitting}, threads=case["threads"])
    return found


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
