"""How a stage lies on a cluster: encoder actors, their CPUs, GPUs and threads, and room for decoding.

An actor needs its CPUs and its share of a GPU on one node, so nodes are counted one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ClusterShapeError, SettingsError

DECODE_CPUS = 0.25
"""CPUs that a decode task claims: four to a CPU, since one encoder of a base model hears 10 times real time on a
CPU core, where decoding does thousands."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node of the cluster has, in Ray's logical units."""

    cpus: float
    gpus: float = 0.0
    resources: frozenset[str] = frozenset()
    memory: int = 0
    """Bytes that tasks and actors may take."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a stage wants to lie on a cluster.

    Attributes:
        threads: Compute threads of an encoder actor on CPU.
        num_workers: Encoder actors; None is as many as the nodes carry.
        max_workers: Actors up to which the pool may grow, as nodes join; it starts with ``num_workers`` then,
            or 1. None is a pool of fixed size.
        gpus_per_worker: GPUs of an actor, as 0.5 for two on each; 0 for CPUs; None is 1 where there are GPUs.
        decode_cpus: CPUs that a decode task claims.
        decode_resource: A Ray resource that only nodes for decoding declare; None decodes anywhere.
    """

    threads: int = 1
    num_workers: int | None = None
    max_workers: int | None = None
    gpus_per_worker: float | None = None
    decode_cpus: float = DECODE_CPUS
    decode_resource: str | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "num_workers", "max_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        if self.max_workers is not None and (self.num_workers or 1) > self.max_workers:
            raise SettingsError(f"num_workers {self.num_workers} is above max_workers {self.max_workers}")
        gpus = self.gpus_per_worker
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise SettingsError(f"gpus_per_worker must be 0 to 1, or whole, got {gpus:g}")
        if not self.decode_cpus > 0:
            raise SettingsError(f"decode_cpus must be above 0, got {self.decode_cpus:g}")


@dataclass(frozen=True, kw_only=True)
class WorkerShape:
    """How a stage lies on the cluster.

    Attributes:
        num_workers: Encoder actors at the start.
        max_workers: Actors up to which the pool may grow.
        cpus: CPUs claimed by each.
        gpus: GPUs claimed by each, 0 on CPU.
        threads: Compute threads in each.
        decoders: Decode tasks that can run beside them.
        decode_cpus: CPUs claimed by each of those.
        decode_resource: The Ray resource that their nodes have, None for any node.
        runner: Who does the work: Ray, in actors and tasks, or this process, in threads.
    """

    num_workers: int
    max_workers: int
    cpus: float
    gpus: float
    threads: int
    decoders: int
    decode_cpus: float = DECODE_CPUS
    decode_resource: str | None = None
    runner: Literal["ray", "here"] = "ray"

    @property
    def device(self) -> str:
        """The torch device of a worker; Ray shows it only its own GPU."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        if self.runner == "here":
            return f"{self.num_workers} encoder(s) of {self.threads} thread(s) in this process, {self.device}"
        grows = f" to {self.max_workers}" if self.max_workers > self.num_workers else ""
        where = f" on nodes with {self.decode_resource}" if self.decode_resource else ""
        return (
            f"{self.num_workers}{grows} encoder actor(s) with {self.cpus:g} CPU, {self.gpus:g} GPU, "
            f"{self.threads} thread(s) each; up to {self.decoders} decode task(s) of {self.decode_cpus:g} CPU{where}"
        )


def worker_shape(nodes: Sequence[Node], placement: Placement, *, use_gpu: bool = True) -> WorkerShape:
    """Fit encoder actors and decode tasks into a cluster.

    On CPUs an actor claims less than its threads, by one decode task: actors that claimed every CPU left none to
    the decode tasks that feed them, and the run never ended (2 CPUs, two 1-CPU actors).

    Args:
        nodes: The cluster.
        placement: What is wanted.
        use_gpu: Whether the stage has work for GPUs.

    Raises:
        ClusterShapeError: The actors and one decode task do not fit.
    """
    wanted = placement.gpus_per_worker
    if wanted is None:
        wanted = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    gpus = wanted if use_gpu else 0.0
    claim = 1.0 if gpus else max(placement.threads - placement.decode_cpus, placement.threads / 2)
    room = [_room(node, claim, gpus, placement.threads) for node in nodes]
    count = placement.num_workers or (1 if placement.max_workers else max(1, sum(room)))
    taken = _spread(nodes, count, claim, gpus)
    decoders = 0
    if taken is not None:
        decoders = sum(
            int((node.cpus - claim * held + 1e-9) / placement.decode_cpus)
            for node, held in zip(nodes, taken, strict=True)
            if placement.decode_resource is None or placement.decode_resource in node.resources
        )
    if taken is None or decoders < 1:
        raise ClusterShapeError(_refusal(nodes, placement, count, claim, gpus))
    return WorkerShape(
        num_workers=count,
        max_workers=placement.max_workers or count,
        cpus=claim,
        gpus=gpus,
        threads=placement.threads,
        decoders=decoders,
        decode_cpus=placement.decode_cpus,
        decode_resource=placement.decode_resource,
    )


def _room(node: Node, claim: float, gpus: float, threads: int) -> int:
    """Count the actors that a node carries: by its GPUs, or one for each group of threads."""
    if gpus:
        # 1 / 3 of a GPU fits three times, whatever the binary fraction says.
        return min(int(node.gpus / gpus + 1e-9), int(node.cpus / claim))
    return int(node.cpus // threads)


def _spread(nodes: Sequence[Node], count: int, claim: float, gpus: float) -> list[int] | None:
    """Put actors on nodes, on those without CPUs to spare last; None when they do not fit."""
    most = [
        min(int(node.cpus / claim + 1e-9), int(node.gpus / gpus + 1e-9) if gpus else count, count) for node in nodes
    ]
    taken = [0] * len(nodes)
    for _ in range(count):
        free = [place for place in range(len(nodes)) if taken[place] < most[place]]
        if not free:
            return None
        # The roomiest node, as a spreading scheduler would: decode tasks find room beside each.
        taken[max(free, key=lambda place: (nodes[place].cpus - claim * taken[place], -place))] += 1
    return taken


def _refusal(nodes: Sequence[Node], placement: Placement, count: int, claim: float, gpus: float) -> str:
    where = f" on a node with the resource {placement.decode_resource}" if placement.decode_resource else ""
    have = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes[:8])
    have += f" and {len(nodes) - 8} more nodes" if len(nodes) > 8 else ""
    return (
        f"{count} encoder actor(s) of {claim:g} CPU{f' and {gpus:g} GPU' if gpus else ''} and a decode task of "
        f"{placement.decode_cpus:g} CPU{where} do not fit into {have or 'a cluster without CPUs'}; "
        "lower --num-workers, --threads-per-worker or --gpus-per-worker, or add nodes"
    )
