"""Runs units of a dataset on Ray: decode in CPU tasks, make and commit in an actor pool, progress from commits.

    units -> map(load: decode, CPU tasks) -> map_batches(ShardWorker: encode, write, commit, actors)

A row is one unit, so block splitting never cuts it and a retry redoes exactly one. The two steps claim different
resources, else Ray Data fuses them into one actor and nothing overlaps. A unit's row leaves the actor after its
commit; meanwhile a second call in the same actor may compute, one at a time under a lock.
"""

import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import faults
from pipeline.completion import check_rejects, finish, status
from pipeline.dataset import Commit, Dataset, Output
from pipeline.errors import ClusterShapeError, PipelineError, StorageError
from pipeline.reporting import Progress, StageReport, Tally
from pipeline.runtime import ALLOCATOR
from pipeline.shards import MakerFactory, Utterance, make_unit
from pipeline.storage import open_store

logger = logging.getLogger(__name__)

WINDOW = 10_000
"""Units given to Ray Data at a time: its planning holds every block of a run in the driver."""

DECODE_CPUS = 0.25
Load = Callable[[str], list[Utterance]]


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


def connect() -> None:
    """Join the Ray cluster that RAY_ADDRESS names or that runs here, else start a local one; once a process."""
    if ray.is_initialized():
        return
    # The driver's own variables, so that fault points reach workers of a running cluster too.
    variables = {**ALLOCATOR, **{k: v for k, v in os.environ.items() if k == faults.VARIABLE}}
    ray.init(
        logging_level=logging.WARNING,
        log_to_driver=False,
        include_dashboard=False,
        runtime_env={"env_vars": variables},
    )


def cluster_shape(*, threads: int, num_workers: int | None, use_gpu: bool = True) -> WorkerShape:
    """Fit a stage into the Ray cluster, started if need be; with ``use_gpu``, onto its GPUs where it has any."""
    connect()
    total = ray.cluster_resources()
    gpus = total.get("GPU", 0) if use_gpu else 0
    return worker_shape(cpus=total.get("CPU", 0), gpus=gpus, threads=threads, num_workers=num_workers)


@dataclass(frozen=True, kw_only=True)
class Done:
    """One unit that has just been committed, and who did it.

    Attributes:
        commit: Its commit.
        load_pid: Process that decoded it, 0 when there was nothing to decode.
        make_pid: Process that encoded it.
        load_bytes: Peak resident memory of the decoding process, bytes.
        make_bytes: Peak resident memory of the encoding process, bytes.
    """

    commit: Commit
    load_pid: int
    make_pid: int
    load_bytes: int
    make_bytes: int


def run_units(
    dataset: Dataset,
    units: Sequence[str],
    *,
    load: Load | None,
    factory: MakerFactory,
    shape: WorkerShape,
    numerics_mode: str = "same",
) -> Iterator[Done]:
    """Make and commit units on Ray, yielding each as its commit lands, in any order.

    Args:
        dataset: The dataset being written.
        units: Units without a commit.
        load: Gives a unit's utterances, in a CPU task; None when the maker reads its own input.
        factory: Builds the maker, once in each actor.
        shape: How the work lies on the cluster.
        numerics_mode: ``same`` refuses a worker whose bits may differ from the first one's; ``any`` admits it.

    Raises:
        PipelineError: What a worker raised; the run stops, commits stay.
    """
    _configure()
    check_nodes(dataset)
    for window in _windows(units):
        rows: ray.data.Dataset = ray.data.from_items(
            [{"unit": unit} for unit in window], override_num_blocks=len(window)
        )
        if load is not None:
            rows = rows.map(_Loader(load), num_cpus=DECODE_CPUS)
        rows = rows.map_batches(
            ShardWorker,
            fn_constructor_args=(dataset.uri, factory, numerics_mode),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=shape.num_workers, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
            ),
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
        )
        try:
            for row in rows.iter_rows():
                yield Done(
                    commit=Commit.from_bytes(row["commit"].encode(), row["unit"]),
                    load_pid=row["load_pid"],
                    make_pid=row["make_pid"],
                    load_bytes=row["load_bytes"],
                    make_bytes=row["make_bytes"],
                )
        except Exception as error:
            raise user_error(error) from error


def _windows(units: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(units), WINDOW):
        yield units[start : start + WINDOW]


def user_error(error: BaseException) -> BaseException:
    """Find our own exception inside what Ray wrapped around it; else give the error itself."""
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or current in seen:
            continue
        seen.append(current)
        if isinstance(current, PipelineError):
            return current
        queue += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return error


def run_stage(
    dataset: Dataset,
    *,
    load: Load | None,
    factory: MakerFactory,
    shape: WorkerShape,
    numerics_mode: str,
    max_reject_fraction: float,
) -> StageReport:
    """Do what a dataset lacks, show progress, finish it and report.

    Args:
        dataset: The dataset being written.
        load: See ``run_units``.
        factory: See ``run_units``.
        shape: How the work lies on the cluster.
        numerics_mode: See ``run_units``.
        max_reject_fraction: Share of the input's utterances that may be rejected.

    Raises:
        TooManyRejectsError: More were rejected; what is done stays.
    """
    start = status(dataset)
    tally = Tally(start)
    pending = dataset.pending()
    logger.info("%s: %d of %d units to do; %s", dataset.plan.kind, len(pending), start.units, shape)
    with Progress(tally) as progress:
        if pending:
            units = run_units(dataset, pending, load=load, factory=factory, shape=shape, numerics_mode=numerics_mode)
            for done in units:
                tally.add(done.commit, done.load_pid, done.make_pid, done.load_bytes, done.make_bytes)
                progress.show()
                faults.point("driver_after_commit", done.commit.unit)
    end = status(dataset)
    check_rejects(end, max_reject_fraction)
    return tally.report(end, workers=str(shape), dataset_sha256=finish(dataset))


def _configure() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    # Ray 2.60 defaults: 30 minutes without a sign of a stall; actors that die in __init__ are started for ever.
    context.execution_no_progress_timeout_s = 300
    context.max_consecutive_actor_init_deaths = 5
    context.max_errored_blocks = 0
    context.enable_fallback_to_arrow_object_ext_type = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def check_nodes(dataset: Dataset) -> None:
    """Name a node that does not see the driver's files, before any work is lost on it.

    Raises:
        StorageError: The output is a folder that some node does not share.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if len(nodes) < 2:
        return
    name = f"_probe/{ray.get_runtime_context().get_job_id()}"
    dataset.store.write(name, b"seen")
    see = ray.remote(num_cpus=0)(_sees)
    for node in nodes:
        where = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        if not ray.get(see.options(scheduling_strategy=where).remote(dataset.uri, name)):
            raise StorageError(
                f"node {node['NodeManagerAddress']} does not see {dataset.uri}; use s3:// or a disk all nodes share"
            )
    dataset.store.delete([name])


def _sees(uri: str, name: str) -> bool:
    return open_store(uri).exists(name)


class _Loader:
    """Runs ``load`` in a CPU task and packs what it gives for the object store."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.__name__ = "load"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        payload = pack(self._load(row["unit"]))
        return {"unit": row["unit"], "payload": payload, "load_pid": os.getpid(), "load_bytes": peak_memory()}


class ShardWorker:
    """The actor that makes and commits units; one a device."""

    def __init__(self, uri: str, factory: MakerFactory, numerics_mode: str) -> None:
        self._dataset = Dataset.open(uri, finished=False)
        self._factory = factory
        self._maker = factory()
        self._numerics = self._maker.numerics()
        self._dataset.claim_numerics(self._numerics, numerics_mode)
        self._device = threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Make one unit: a row of (unit, payload) in, a row of (unit, commit, ...) out."""
        unit = batch["unit"][0].as_py()
        loaded = "payload" in batch.column_names
        utterances = unpack(batch["payload"][0].as_buffer()) if loaded else []
        commit = make_unit(self._dataset, unit, utterances, self._make, factory=self._factory, numerics=self._numerics)
        return pa.table(
            {
                "unit": [unit],
                "commit": [commit.to_json()],
                "load_pid": [batch["load_pid"][0].as_py() if loaded else 0],
                "make_pid": [os.getpid()],
                "load_bytes": [batch["load_bytes"][0].as_py() if loaded else 0],
                "make_bytes": [peak_memory()],
            }
        )

    def _make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        with self._device:
            return self._maker.make(unit, utterances)


def peak_memory() -> int:
    """Give the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def pack(utterances: Sequence[Utterance]) -> bytes:
    """Put utterances into one Arrow stream: int16 stays int16, so lossless audio costs half."""
    table = pa.table(
        {
            "utterance_id": [u.utterance_id for u in utterances],
            "uri": [u.uri for u in utterances],
            "dtype": [u.samples.dtype.str if u.samples is not None else None for u in utterances],
            "samples": pa.array(
                [u.samples.tobytes() if u.samples is not None else None for u in utterances], pa.large_binary()
            ),
            "seconds": pa.array([u.seconds for u in utterances], pa.float64()),
            "reason": pa.array([u.problem[0] if u.problem else None for u in utterances], pa.string()),
            "detail": pa.array([u.problem[1] if u.problem else None for u in utterances], pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack(payload: pa.Buffer) -> list[Utterance]:
    """Give back what ``pack`` took; waveforms are views into the payload."""
    table = pa.ipc.open_stream(payload).read_all()
    samples = table["samples"].combine_chunks() if table.num_rows else []
    columns = table.drop_columns(["samples"]).to_pylist()
    return [
        Utterance(
            utterance_id=row["utterance_id"],
            uri=row["uri"],
            samples=np.frombuffer(cell.as_buffer(), np.dtype(row["dtype"])) if row["dtype"] else None,
            seconds=row["seconds"],
            problem=(row["reason"], row["detail"]) if row["reason"] else None,
        )
        for row, cell in zip(columns, samples, strict=True)
    ]
