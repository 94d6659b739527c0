"""How a stage lies on a cluster: encoder actors, their CPUs, GPUs and threads, and room for decoding."""

from dataclasses import dataclass

from pipeline.errors import ClusterShapeError

DECODE_CPUS = 0.25
"""CPUs that a decode task claims: four to a CPU, since one encoder of a base model hears 10 times real time on a
CPU core, where decoding does thousands."""


@dataclass(frozen=True, kw_only=True)
class WorkerShape:
    """How a stage lies on the cluster.

    Attributes:
        num_workers: Encoder actors.
        cpus: CPUs claimed by each.
        gpus: GPUs claimed by each, 0 or 1.
        threads: Compute threads in each.
        decoders: Decode tasks that can run beside them.
    """

    num_workers: int
    cpus: float
    gpus: int
    threads: int
    decoders: int

    @property
    def device(self) -> str:
        """The torch device of a worker; Ray shows it only its own GPU."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        return (
            f"{self.num_workers} encoder actor(s) with {self.cpus:g} CPU, {self.gpus} GPU, {self.threads} thread(s) "
            f"each; up to {self.decoders} decode task(s) of {DECODE_CPUS:g} CPU"
        )


def worker_shape(*, cpus: float, gpus: float, threads: int, num_workers: int | None = None) -> WorkerShape:
    """Fit encoder actors and decode tasks into a cluster.

    On CPUs an actor claims a quarter less than its threads: actors that claimed every CPU left none to the decode
    tasks that feed them, and the run never ended (2 CPUs, two 1-CPU actors).

    Args:
        cpus: CPUs of the cluster.
        gpus: GPUs of the cluster.
        threads: Compute threads of an actor on CPU.
        num_workers: Actors wanted; default one a GPU, or as many as the CPUs carry.

    Raises:
        ClusterShapeError: The actors and one decode task do not fit.
    """
    use_gpu = gpus >= 1
    claim = 1.0 if use_gpu else threads - DECODE_CPUS
    count = num_workers or max(1, int(gpus) if use_gpu else int(cpus // threads))
    left = cpus - count * claim
    if left < DECODE_CPUS or (use_gpu and count > gpus):
        raise ClusterShapeError(
            f"{count} encoder actor(s) of {claim:g} CPU{' and 1 GPU' if use_gpu else ''} and a decode task of "
            f"{DECODE_CPUS:g} CPU do not fit into {cpus:g} CPU and {gpus:g} GPU; lower --num-workers or "
            "--threads-per-worker"
        )
    shape_gpus = 1 if use_gpu else 0
    return WorkerShape(
        num_workers=count, cpus=claim, gpus=shape_gpus, threads=threads, decoders=int(left / DECODE_CPUS)
    )
