"""Encoders 1, 2, 4, ... of a simulated cluster, which sleep as GPUs would: share of linear, and what the driver costs.

    python -m bench.scaling [--actors 1 2 4 8 16 32 64] [--sleep-seconds 4] [--shards-per-actor 12] [--json FILE]

Nodes are raylets on this machine with sixteen GPUs each that only Ray believes in (``ray.cluster_utils.Cluster``).
Each shard goes through decoding, actor, commit and report as in a run. Share of linear: seconds slept, of those that
the actors had from the moment the last one was ready until the first one had no shard left, or to the last commit: an
actor has up to four shards at hand, which at the end others lack. The driver is the process of the job; its CPU is
counted in the same stretch, and in all: the commits are read when a dataset is finished.
"""

import argparse
import json
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measuring import peak_bytes, run_child, table, write_json
from bench.sleeping import SHARD_SECONDS, run
from pipeline.work.reporting import Tally
from pipeline.work.units import Done
from pipeline.work.waiting import ShardTimes

GPUS_PER_NODE = 16
"""Ray starts a process for each CPU of a node before anybody asks: many nodes with many CPUs fill the memory."""


class Clock:
    """Notes when the driver heard of shards, what it had computed by then, and when actors had them."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []
        self.machine: list[tuple[float, float, float]] = []
        self.times: list[ShardTimes] = []
        self.workers: list[str] = []
        self._add = Tally.add

    def __enter__(self) -> "Clock":
        """Listen to every tally."""
        clock = self

        def add(tally: Tally, done: Done) -> None:
            clock._add(tally, done)
            clock.told.append((time.time(), cpu_seconds()))
            clock.machine.append((time.time(), *machine_seconds()))
            clock.times.append(done.times)
            clock.workers.append(done.worker)

        Tally.add = add  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        Tally.add = self._add  # type: ignore[method-assign]

    def steady(self) -> list[tuple[float, float]]:
        """Give time and driver's CPU at each commit after the last actor was ready."""
        return [told for told in self.told if told[0] >= self.ready]

    def machine_busy(self) -> float:
        """Give the share of the machine's cores that was busy from the last actor's start to the first one's end."""
        held = [each for each in self.machine if self.ready <= each[0] <= self.first_idle]
        (_, busy, total), (_, busy_then, total_then) = held[0], held[-1]
        return (busy_then - busy) / max(1e-9, total_then - total)

    @property
    def ready(self) -> float:
        """When the last actor was ready."""
        return max(each.ready for each in self.times)

    @property
    def first_idle(self) -> float:
        """When the first actor had done its last shard: until then there was one for everybody."""
        ended: dict[str, float] = {}
        for worker, each in zip(self.workers, self.times, strict=True):
            ended[worker] = max([ended.get(worker, 0.0), *(work.ended for work in each.work)])
        return min(ended.values())

    def busy(self, actors: int, until: float) -> float:
        """Give the share of the actors' time, from the moment the last one was ready, in which they slept.

        Raises:
            RuntimeError: There were too few shards.
        """
        if until <= self.ready:
            raise RuntimeError("an actor had no shard left when the last one was ready; raise --shards-per-actor")
        works = [work for each in self.times for work in each.work]
        slept = sum(max(0.0, min(work.ended, until) - max(work.began, self.ready)) for work in works)
        return slept / (actors * (until - self.ready))


def cpu_seconds() -> float:
    """Give the CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def machine_seconds() -> tuple[float, float]:
    """Give the seconds that all cores were busy, and all their seconds, in ticks."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return float(sum(ticks) - ticks[3] - ticks[4]), float(sum(ticks))


def measure(actors: int, shards: int, sleep_seconds: float) -> dict[str, Any]:
    """Start a cluster, run, and count; called in a child process."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_gpus": GPUS_PER_NODE, "num_cpus": GPUS_PER_NODE + 1, "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(-(-actors // GPUS_PER_NODE)):
        cluster.add_node(**node)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    cluster.wait_for_nodes()
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        cpu = cpu_seconds()
        report = run(Path(folder) / "tokens", shards=shards, sleep_seconds=sleep_seconds, workers=actors)
        cpu, ended_at = cpu_seconds() - cpu, time.time()
    ray.shutdown()
    cluster.shutdown()
    steady = clock.steady()
    (began, cpu_began), (ended, cpu_ended) = steady[0], steady[-1]
    return {
        "actors": actors,
        "shards": shards,
        "linear": clock.busy(actors, clock.first_idle),
        "linear_to_the_end": clock.busy(actors, ended),
        "shards_per_second": clock.busy(actors, clock.first_idle) * actors / sleep_seconds,
        "driver_ms_per_shard": 1e3 * (cpu_ended - cpu_began) / (len(steady) - 1),
        "driver_cores": (cpu_ended - cpu_began) / (ended - began),
        "driver_ms_per_shard_in_all": 1e3 * cpu / shards,
        "driver_peak_mib": peak_bytes() / 2**20,
        "machine_busy": clock.machine_busy(),
        "wall_seconds": report.wall_seconds,
        "closing_seconds": ended_at - ended,
    }


def main() -> None:
    """Run one after the other; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--sleep-seconds", type=float, default=4.0)
    parser.add_argument("--shards-per-actor", type=int, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    for actors in given.actors:
        settings = {"actors": actors, "shards": actors * given.shards_per_actor, "sleep_seconds": given.sleep_seconds}
        found.append(run_child("bench.scaling", settings))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    rows = [
        [
            each["actors"],
            f"{each['linear']:.3f}",
            f"{each['linear_to_the_end']:.3f}",
            f"{each['shards_per_second']:.1f}",
            f"{each['driver_ms_per_shard']:.1f}",
            f"{each['driver_cores']:.3f}",
            f"{each['driver_peak_mib']:.0f}",
            f"{each['machine_busy']:.2f}",
            f"{each['shards_per_second'] * SHARD_SECONDS:,.0f}",
        ]
        for each in found
    ]
    header = (
        "actors",
        "of linear",
        "to the end",
        "shards/s",
        "driver ms/shard",
        "driver cores",
        "driver MiB",
        "machine busy",
        "times real time",
    )
    print(table(header, rows))
    write_json(given.json, {"scaling": found})


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
    else:
        main()
