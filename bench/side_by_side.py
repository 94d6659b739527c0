"""One, two and three jobs on one simulated cluster, whose encoders sleep as GPUs would: what a job loses by the others.

    python -m bench.side_by_side [--jobs 1 2 3] [--workers 2] [--shards 24] [--sleep-seconds 2] [--json FILE]

Each job is a driver process of its own that joins the cluster and asks for ``--workers`` GPUs of it; there are as many
as all jobs together ask for, two on a node. The last row is of two jobs that ask for every GPU: the second one waits
until the first one is done. Each job writes its own dataset; all have the same plan, and must end with the same hash.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measuring import run_together, table, wait_for_go, write_json
from bench.sleeping import run

GPUS_PER_NODE = 2


def work(address: str, folder: str, shards: int, sleep_seconds: float, workers: int) -> dict[str, Any]:
    """Join, wait for the others, make a dataset; called in a child process."""
    import ray

    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    wait_for_go()
    began = time.monotonic()
    report = run(Path(folder), shards=shards, sleep_seconds=sleep_seconds, workers=workers)
    assert report.waiting is not None
    return {
        "seconds": time.monotonic() - began,
        "from_first_ready": report.wall_seconds - report.startup_seconds,
        "busy": report.waiting.busy,
        "sha256": report.dataset_sha256,
        "ended": time.monotonic(),
    }


def beside(address: str, jobs: int, workers: int, shards: int, sleep_seconds: float) -> list[dict[str, Any]]:
    """Run some jobs at once; gives what each one took, the fastest first."""
    with tempfile.TemporaryDirectory() as folder:
        common = {"address": address, "shards": shards, "sleep_seconds": sleep_seconds, "workers": workers}
        settings = [{**common, "folder": f"{folder}/{number}"} for number in range(jobs)]
        found: list[dict[str, Any]] = run_together("bench.side_by_side", settings)["children"]
    if len({each["sha256"] for each in found}) != 1:
        raise RuntimeError(f"the jobs' outputs differ: {found}")
    return sorted(found, key=lambda each: each["seconds"])


def main() -> None:
    """Start a cluster, run the jobs, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--sleep-seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    every = max(given.jobs) * given.workers
    for _ in range(-(-every // GPUS_PER_NODE)):
        cluster.add_node(num_gpus=GPUS_PER_NODE, num_cpus=GPUS_PER_NODE + 2, object_store_memory=200 << 20)
    found = []
    for jobs, workers in [*((jobs, given.workers) for jobs in given.jobs), (2, every)]:
        ended = beside(cluster.address, jobs, workers, given.shards, given.sleep_seconds)
        found.append({"jobs": jobs, "workers": workers, "each": ended})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    cluster.shutdown()
    rows = []
    for one in found:
        least = given.shards * given.sleep_seconds / one["workers"]
        rows.append(
            [
                one["jobs"],
                one["workers"],
                f"{least:.0f}",
                ", ".join(f"{each['seconds']:.1f}" for each in one["each"]),
                ", ".join(f"{each['from_first_ready']:.1f}" for each in one["each"]),
                ", ".join(f"{each['busy']:.2f}" for each in one["each"]),
            ]
        )
    header = ("jobs", "GPUs of each", "s of sleep per GPU", "wall s", "wall s from the first encoder on", "busy")
    print(table(header, rows))
    write_json(given.json, {"side_by_side": found})


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(work(**json.loads(sys.argv[1]))))
    else:
        main()
