"""Runs units of a dataset on Ray: decode in CPU tasks, make and commit in an actor pool, progress from commits.

    units -> map(load: decode, CPU tasks) -> map_batches(ShardWorker: encode, write, commit, actors)

A row is one unit, so block splitting never cuts it and a retry redoes exactly one. The two steps claim different
resources, else Ray Data fuses them into one actor and nothing overlaps. A unit's row leaves the actor after its
commit; meanwhile a second call in the same actor has the device. Makers are called from two threads at once.
"""

import json
import logging
import os
import resource
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import errors, faults
from pipeline.errors import AudioDecodeError, PipelineError, StorageError
from pipeline.store.completion import check_rejects, finish, status
from pipeline.store.dataset import Commit, Dataset, Output
from pipeline.store.provenance import recorded_estimate
from pipeline.store.storage import open_store
from pipeline.work.payload import binary_cell, pack, unpack
from pipeline.work.reporting import Progress, StageReport, Tally
from pipeline.work.runtime import ALLOCATOR
from pipeline.work.units import MakerFactory, Utterance, make_unit
from pipeline.work.waiting import ShardTimes, Work
from pipeline.work.worker_shape import Node, Placement, WorkerShape, worker_shape

logger = logging.getLogger(__name__)

WINDOW = 10_000
"""Units given to Ray Data at a time: its planning holds every block of a run in the driver."""

_PAYLOAD_BYTES_PER_SECOND = 64_000
"""Decoded audio in the object store: float32 at 16 kHz; int16 takes half."""
_LEAST_QUEUE_BYTES = 64 << 20

Load = Callable[[str], list[Utterance]]
Result = TypeVar("Result")


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


def cluster_shape(placement: Placement | None = None, *, use_gpu: bool = True) -> WorkerShape:
    """Fit a stage into the Ray cluster, started if need be; with ``use_gpu``, onto its GPUs where it has any.

    Args:
        placement: What is wanted; default is one thread an actor and as many actors as fit.
        use_gpu: Whether the stage has work for GPUs.

    Raises:
        ClusterShapeError: It does not fit.
    """
    connect()
    nodes = [
        Node(
            cpus=node["Resources"].get("CPU", 0),
            gpus=node["Resources"].get("GPU", 0),
            resources=frozenset(node["Resources"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return worker_shape(nodes, placement or Placement(), use_gpu=use_gpu)


@dataclass(frozen=True, kw_only=True)
class Done:
    """One unit that has just been committed, and who did it.

    Attributes:
        commit: Its commit.
        load_pid: Process that decoded it, 0 when there was nothing to decode.
        make_pid: Process that encoded it.
        load_bytes: Peak resident memory of the decoding process, bytes.
        make_bytes: Peak resident memory of the encoding process, bytes.
        times: When the encoding process had it.
    """

    commit: Commit
    load_pid: int
    make_pid: int
    load_bytes: int
    make_bytes: int
    times: ShardTimes


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
    _configure(queue_bytes(dataset, shape) if load is not None else None)
    check_nodes(dataset)
    for window in _windows(units):
        rows: ray.data.Dataset = ray.data.from_items(
            [{"unit": unit} for unit in window], override_num_blocks=len(window)
        )
        if load is not None:
            # A thousandth: the resource says where, not how many.
            where = {shape.decode_resource: 0.001} if shape.decode_resource else None
            rows = rows.map_batches(
                _Loader(load), batch_size=1, batch_format="pyarrow", num_cpus=shape.decode_cpus, resources=where
            )
        rows = rows.map_batches(
            ShardWorker,
            fn_constructor_args=(dataset.uri, factory, numerics_mode),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=min(shape.num_workers, len(window)),
                max_size=min(shape.max_workers, len(window)),
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
        )
        try:
            for row in rows.iter_rows():
                if row["error"]:
                    raise named_error(row["error"])
                yield _done(row)
        except ray.exceptions.RayError as error:
            raise PipelineError(f"a worker failed; what is committed stays: {_last_line(error)}") from error


def _done(row: dict[str, Any]) -> Done:
    work = tuple(Work(**work) for work in json.loads(row["work"]))
    return Done(
        commit=Commit.from_bytes(row["commit"].encode(), row["unit"]),
        load_pid=row["load_pid"],
        make_pid=row["make_pid"],
        load_bytes=row["load_bytes"],
        make_bytes=row["make_bytes"],
        times=ShardTimes(ready=row["ready"], arrived=row["arrived"], work=work),
    )


def _windows(units: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(units), WINDOW):
        yield units[start : start + WINDOW]


def named_error(text: str) -> PipelineError:
    """Give back an exception of ours that a worker wrote down as ``ClassName: message``.

    Ray Data wraps what a worker raises and loses the cause, so our own errors travel as values.
    """
    name, _, message = text.partition(": ")
    kind = getattr(errors, name, PipelineError)
    return kind(message) if kind is not AudioDecodeError else PipelineError(message)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _write_down(error: Exception, unit: str) -> str:
    if isinstance(error, PipelineError):
        return f"{type(error).__name__}: {error}"
    return f"PipelineError: {unit} failed with {type(error).__name__}: {error}\n{traceback.format_exc()}"


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
                tally.add(done.commit, done.load_pid, done.make_pid, done.load_bytes, done.make_bytes, done.times)
                progress.show()
                faults.point("driver_after_commit", done.commit.unit)
    end = status(dataset)
    check_rejects(end, max_reject_fraction)
    report = tally.report(end, workers=str(shape), dataset_sha256=finish(dataset))
    whole = report.units_done_now == report.units
    return replace(report, predicted_seconds=recorded_estimate(dataset.store) if whole else None)


def on_workers(task: Callable[[], Result], shape: WorkerShape, count: int) -> list[Result]:
    """Run a task in processes that are as encoder actors are, all at once.

    Args:
        task: Picklable; its result too.
        shape: CPUs and GPUs of a worker.
        count: How many.

    Raises:
        PipelineError: What the task raised.
    """
    run: Any = ray.remote(num_cpus=shape.cpus, num_gpus=shape.gpus, max_retries=0)(_call)
    try:
        results: list[Result] = ray.get([run.remote(task) for _ in range(count)])
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, PipelineError) else PipelineError(_last_line(error)) from error
    return results


def queue_bytes(dataset: Dataset, shape: WorkerShape) -> int:
    """Give the object store that decoded shards may take: two for each actor and those being decoded.

    Without a limit Ray Data decodes until a quarter of the store is full; each worker's resident memory grows with it.
    """
    shard_seconds = dataset.plan.totals.get("seconds", 0.0) / max(1, len(dataset.plan.units))
    shards = 2 * shape.max_workers + shape.decoders
    return max(_LEAST_QUEUE_BYTES, round(shards * shard_seconds * _PAYLOAD_BYTES_PER_SECOND))


def _configure(queue_bytes: int | None) -> None:
    context = DataContext.get_current()
    # None also takes back what an earlier stage of this process has set.
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=queue_bytes)
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    # Ray 2.60 defaults: 30 minutes without a sign of a stall; actors that die in __init__ are started for ever.
    context.execution_no_progress_timeout_s = 300
    context.max_consecutive_actor_init_deaths = 5
    context.max_errored_blocks = 0
    context.enable_fallback_to_arrow_object_ext_type = False
    # Ray Data repeats every worker's traceback here; ours is one sentence.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


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

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Decode one unit: a row of (unit) in, a row of (unit, payload, ...) out."""
        unit = batch["unit"][0].as_py()
        problem, payload = "", pa.py_buffer(b"")
        try:
            payload = pack(self._load(unit))
        except Exception as error:
            problem = _write_down(error, unit)
        row = {"unit": unit, "error": problem, "load_pid": os.getpid(), "load_bytes": peak_memory()}
        # As a table, whose buffers Ray moves as they are: from a dict of Python bytes it makes three copies.
        return pa.table({**{name: [value] for name, value in row.items()}, "payload": binary_cell(payload)})


class ShardWorker:
    """The actor that makes and commits units; one a device."""

    def __init__(self, uri: str, factory: MakerFactory, numerics_mode: str) -> None:
        self._factory = factory
        self._problem = ""
        self._work: dict[str, Sequence[Work]] = {}
        try:
            self._dataset = Dataset.open(uri, finished=False)
            self._maker = factory()
            self._numerics = self._maker.numerics()
            self._dataset.claim_numerics(self._numerics, numerics_mode)
        except Exception as error:
            self._problem = _write_down(error, "a worker's start")
        self._ready = time.time()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Make one unit: a row of (unit, payload) in, a row of (unit, commit, ...) out."""
        arrived = time.time()
        row = {name: batch[name][0].as_py() for name in batch.column_names if name != "payload"}
        problem = self._problem or row.get("error", "")
        commit = ""
        if not problem:
            try:
                utterances = unpack(batch["payload"][0].as_buffer()) if "payload" in batch.column_names else []
                commit = make_unit(
                    self._dataset, row["unit"], utterances, self._make, factory=self._factory, numerics=self._numerics
                ).to_json()
            except Exception as error:
                problem = _write_down(error, row["unit"])
        done = {
            "unit": row["unit"],
            "commit": commit,
            "error": problem,
            "load_pid": row.get("load_pid", 0),
            "make_pid": os.getpid(),
            "load_bytes": row.get("load_bytes", 0),
            "make_bytes": peak_memory(),
            "ready": self._ready,
            "arrived": arrived,
            "work": json.dumps([asdict(work) for work in self._work.pop(row["unit"], ())]),
        }
        return pa.table({name: [value] for name, value in done.items()})

    def _make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        output = self._maker.make(unit, utterances)
        self._work[unit] = output.work
        return output


def peak_memory() -> int:
    """Give the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _call(task: Callable[[], Result]) -> Result:
    return task()
