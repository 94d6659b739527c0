"""Peak memory of train_task as the corpus grows: it should not.

    python -m bench.task_memory [--hours 1 10] [--tasks asr sid] [--layers 6] [--steps 20] [--json FILE]

Manifest and tokens are made up: utterances of 2 to 12 s in shards of 5 minutes, random tokens of K = 500, texts of
random words, 40 speakers. No audio is there, because training reads none. Each run has as many steps, in one process
(``--runner here``); the resident memory of the job and all of its processes is sampled twice a second.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.made_tokens import write_manifest, write_tokens
from bench.measuring import table, write_json
from bench.memory import sampled_run
from pipeline import schema


def run(task: str, corpus: Path, output: Path, steps: int) -> dict[str, Any]:
    """Train a task of its small preset and give the peaks of its processes, and its report."""
    return sampled_run(
        "train_task",
        *("--preset", f"{task}_small", "--manifest", corpus / "manifest", "--tokens", corpus / "tokens"),
        *("--output", output, "--num-steps", steps, "--runner", "here", "--threads-per-worker", 1),
        *("--batch-seconds", 30, "--validate-every", steps // 2, "--checkpoint-every", steps, "--warmup-steps", 10),
        *("--embedding-dim", 192),
    )


def main() -> None:
    """Measure each task with each length and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--tasks", nargs="+", choices=["asr", "sid"], default=["asr", "sid"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for hours in given.hours:
            corpus = Path(name) / f"{hours:g}h"
            digest = write_manifest(corpus / "manifest", hours)
            columns = [schema.layer_column(layer) for layer in range(1, given.layers + 1)]
            write_tokens(corpus / "tokens", hours, columns, digest)
            for task in given.tasks:
                made = run(task, corpus, corpus / task, given.steps)
                peaks = {role: made["peaks"][role] for role in ("driver", "all processes")}
                found.append({"task": task, "hours": hours, "wall_seconds": made["wall_seconds"], "peaks": peaks})
                print(found[-1], flush=True)
    rows = []
    for task in given.tasks:
        sizes = [each["peaks"]["all processes"] for each in found if each["task"] == task]
        rows.append([task, *(f"{size / 2**20:.0f}" for size in sizes), f"{sizes[-1] / sizes[0]:.3f}"])
    print(table(["task", *(f"{hours:g} h, MiB" for hours in given.hours), "last / first"], rows))
    write_json(given.json, {"runs": found, "steps": given.steps, "layers": given.layers})


if __name__ == "__main__":
    main()
