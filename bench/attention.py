"""Time and memory of WavLM's attention: transformers' own form against ours on the fused kernel; HuBERT beside it.

    python -m bench.attention [--what block wavlm hubert] [--seconds 10 15 30 60] [--batches 1 4 16] [--json FILE]

``block`` is the attention of one WavLM-base block, ``wavlm`` and ``hubert`` are whole base networks with seeded
random weights. Each case runs in a child of its own, so that peak memory is its own: what the first forward pass
adds to what is there before it, the position bias included. Time is that of a later pass. Cases that would exceed
--max-gb are skipped, and named.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measuring import best_of, peak_bytes, restart_peak, run_child, table, write_json

HEADS, DIM, STEM, SAMPLE_RATE, HOP = 12, 768, 512, 16_000, 320
FORMS = {"block": ("transformers", "ours"), "wavlm": ("transformers", "ours"), "hubert": ("eager", "sdpa")}


def frames(seconds: float) -> int:
    """Count the frames of audio."""
    return (round(seconds * SAMPLE_RATE) - 400) // HOP + 1


def expected_bytes(case: dict[str, Any]) -> float:
    """Estimate the peak of a case roughly, to skip what cannot run: scores of a block, and the stem of a network."""
    item = 4 if case["dtype"] == "float32" else 2
    scores = case["batch"] * HEADS * frames(case["seconds"]) ** 2 * item
    stem = 0 if case["what"] == "block" else 3 * case["batch"] * case["seconds"] * SAMPLE_RATE / 5 * STEM * item
    return max(stem, scores * (1 if case["form"] in ("ours", "sdpa") else 4))


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Time one case in this process; peak memory is what the first forward pass added."""
    import torch

    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    dtype = getattr(torch, case["dtype"])
    first, later = _block(case, dtype) if case["what"] == "block" else _network(case, dtype)
    with torch.inference_mode():
        before = restart_peak()
        first()
        peak = peak_bytes() - before
        seconds = best_of(later, case["repeats"])
    return {"milliseconds": round(1e3 * seconds, 1), "peak_mb": round(peak / 1e6)}


def _block(case: dict[str, Any], dtype: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Give the first block's attention, which makes the bias, and that of a later block, which finds it made."""
    import torch
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    from pipeline.features.attention import GatedAttention

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

    from pipeline.features.attention import use_sdpa

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
        pair = []
        for form in FORMS[what]:
            case = {"what": what, "dtype": dtype, "batch": batch, "seconds": seconds, "form": form}
            case |= {"threads": given.threads, "repeats": given.repeats}
            skipped = expected_bytes(case) > given.max_gb * 1e9
            found = {"skipped": True} if skipped else run_child("bench.attention", case, threads=given.threads)
            cases.append(case | found)
            pair.append(found)
        times, peaks = ([each.get(key, math.nan) for each in pair] for key in ("milliseconds", "peak_mb"))
        line = [what, dtype, batch, f"{seconds:g}", *times, f"{times[0] / times[1]:.2f}", *peaks]
        rows.append(["skipped" if isinstance(cell, float) and math.isnan(cell) else cell for cell in line])
        print(*rows[-1], file=sys.stderr)
    header = ["what", "dtype", "batch", "s", "plain ms", "fused ms", "ratio", "plain MB", "fused MB"]
    print(table(header, rows))
    write_json(given.json, {"cases": cases})


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
