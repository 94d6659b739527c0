"""Work on Ray: units through Ray Data, decoded in CPU tasks, made and committed in an actor pool; tasks; actors.

    units -> map(load: decode, CPU tasks) -> map_batches(ShardWorker: encode, write, commit, actors)

A row is one unit, so block splitting never cuts it and a retry redoes exactly one. The two steps claim different
resources, else Ray Data fuses them into one actor and nothing overlaps. A unit's row leaves the actor after its
commit; meanwhile a second call in the same actor has the device. Makers are called from two threads at once.
"""

import contextlib
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.data.exceptions import ExecutionTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import errors
from pipeline.errors import AudioDecodeError, PipelineError, StorageError
from pipeline.store.commits import Commit
from pipeline.store.dataset import Dataset, Output
from pipeline.store.storage import PROBES, open_store
from pipeline.work.joining import connect, token_here
from pipeline.work.meters import Meter
from pipeline.work.payload import binary_cell, pack, unpack
from pipeline.work.ray_metrics import RayMeter
from pipeline.work.runner import RunnerKind
from pipeline.work.runtime import quick_start
from pipeline.work.units import Done, Load, MakerFactory, Utterance, make_unit, peak_memory
from pipeline.work.waiting import ShardTimes, Work
from pipeline.work.worker_shape import Node, WorkerShape

logger = logging.getLogger(__name__)

WINDOW = 10_000
"""Units given to Ray Data at a time: its planning holds every block of a run in the driver."""

_PAYLOAD_BYTES_PER_SECOND = 64_000
"""Decoded audio in the object store: float32 at 16 kHz; int16 takes half."""
_LEAST_QUEUE_BYTES = 64 << 20

_NO_PROGRESS_SECONDS = 7200
"""Time without a finished task after which Ray Data ends a run, whether tasks run or not: a shard of half an hour may
take that long on a slow machine. A stall is told of much earlier (``stalls.py``)."""

# Answers added up by one task: more and it holds them all at once, fewer and the tree is deep.
_FAN_IN = 4


class OnRay:
    """The runner on Ray."""

    name: RunnerKind = "ray"

    def nodes(self) -> list[Node]:
        """Say what the nodes of the cluster have; it is joined or started if need be."""
        connect()
        return [
            Node(
                cpus=node["Resources"].get("CPU", 0),
                gpus=node["Resources"].get("GPU", 0),
                resources=frozenset(node["Resources"]),
                memory=int(node["Resources"].get("memory", 0)),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]

    def meter(self) -> Meter:
        """Give a meter whose values Ray's metrics agents export."""
        connect()
        return RayMeter()

    def units(
        self,
        dataset: Dataset,
        units: Sequence[str],
        *,
        load: Load | None,
        factory: MakerFactory,
        shape: WorkerShape,
        numerics_mode: str = "same",
    ) -> Iterator[Done]:
        """Make and commit units through Ray Data; see ``Runner.units``."""
        connect()
        _configure(queue_bytes(dataset, shape) if load is not None else None)
        check_nodes(dataset)
        for start in range(0, len(units), WINDOW):
            window = units[start : start + WINDOW]
            rows = _planned(dataset, window, load, factory, shape, numerics_mode)
            try:
                for row in rows.iter_rows():
                    if row["error"]:
                        raise named_error(row["error"])
                    yield _done(row)
            except ray.exceptions.RayError as error:
                raise PipelineError(f"a worker failed; what is committed stays: {last_words(error)}") from error
            except ExecutionTimeoutError as error:
                raise PipelineError(
                    f"no unit was made for {_NO_PROGRESS_SECONDS / 60:g} minutes; what is committed stays, run the "
                    "same command again, with smaller shards if the machine is slow"
                ) from error

    def tasks(
        self,
        function: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        *,
        shared: Any = None,
        workers: int,
        cpus: float = 1,
        gpus: float = 0,
    ) -> Iterator[Any]:
        """Call a function in tasks; see ``Runner.tasks``."""
        connect()
        task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3)(function)
        held = ray.put(shared)
        waiting = iter(arguments)
        running = [task.remote(held, *some) for _, some in zip(range(workers), waiting, strict=False)]
        while running:
            ended, running = ray.wait(running, num_returns=1)
            with _plain_errors("a task"):
                found = ray.get(ended[0])
            running += [task.remote(held, *some) for _, some in zip(range(1), waiting, strict=False)]
            yield found

    def actors(
        self, kind: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
    ) -> "RayActors":
        """Start actors, spread over the nodes; see ``Runner.actors``."""
        connect()
        # A restarted actor begins anew; what it answers does not depend on what it was asked before.
        actor: Any = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_restarts=3, max_task_retries=3, scheduling_strategy="SPREAD"
        )(kind)
        return RayActors([actor.remote(*some) for some in arguments])


class RayActors:
    """Actors of one class; see ``runner.Actors``."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of each; the arguments go out once to each node."""
        with _plain_errors("an actor"):
            found: list[Any] = ray.get(self._asked(method, arguments))
        return found

    def total(self, add: Callable[..., Any], method: str, *arguments: Any) -> Any:
        """Call a method of each, and add the answers up in a tree of tasks."""
        found = self._asked(method, arguments)
        join: Any = ray.remote(num_cpus=0)(add)
        while len(found) > _FAN_IN:
            found = [join.remote(*found[begin : begin + _FAN_IN]) for begin in range(0, len(found), _FAN_IN)]
        with _plain_errors("an actor"):
            return add(*ray.get(found))

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _asked(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        shared = [ray.put(argument) for argument in arguments]
        return [getattr(actor, method).remote(*shared) for actor in self._actors]


@contextlib.contextmanager
def _plain_errors(who: str) -> Iterator[None]:
    """Raise what a worker raised as itself, and what Ray says of a worker as a sentence."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, PipelineError) else PipelineError(f"{who} failed: {error}") from error
    except ray.exceptions.RayError as error:
        raise PipelineError(f"{who} died again and again: {last_words(error)}") from error


def _planned(
    dataset: Dataset,
    units: Sequence[str],
    load: Load | None,
    factory: MakerFactory,
    shape: WorkerShape,
    numerics_mode: str,
) -> ray.data.Dataset:
    """Say to Ray Data what is done with some units; nothing runs yet."""
    rows: ray.data.Dataset = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
    if load is not None:
        # A thousandth: the resource says where, not how many.
        where = {shape.decode_resource: 0.001} if shape.decode_resource else None
        rows = rows.map_batches(
            _Loader(load), batch_size=1, batch_format="pyarrow", num_cpus=shape.decode_cpus, resources=where
        )
    return rows.map_batches(
        ShardWorker,
        fn_constructor_args=(dataset.uri, factory, numerics_mode),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=min(shape.num_workers, len(units)),
            max_size=min(shape.max_workers, len(units)),
            max_concurrent_calls_per_actor=2,
            enable_true_multi_threading=True,
        ),
        num_cpus=shape.cpus,
        num_gpus=shape.gpus,
    )


def _done(row: dict[str, Any]) -> Done:
    work = tuple(Work(**work) for work in json.loads(row["work"]))
    return Done(
        commit=Commit.from_bytes(row["commit"].encode(), row["unit"]),
        worker=row["process"],
        process=row["process"],
        loader=row["loader"],
        load_bytes=row["load_bytes"],
        make_bytes=row["make_bytes"],
        times=ShardTimes(ready=row["ready"], arrived=row["arrived"], work=work),
    )


def named_error(text: str) -> PipelineError:
    """Give back an exception of ours that a worker wrote down as ``ClassName: message``.

    Ray Data wraps what a worker raises and loses the cause, so our own errors travel as values.
    """
    name, _, message = text.partition(": ")
    kind = getattr(errors, name, PipelineError)
    return kind(message) if kind is not AudioDecodeError else PipelineError(message)


def _process() -> str:
    """Name this process among all of the cluster."""
    return str(ray.get_runtime_context().get_worker_id())


def last_words(error: BaseException) -> str:
    """Give the last line of what Ray says, and what is behind it where Ray (2.60) does not say it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = lines[-1].strip() if lines else type(error).__name__
    # Every actor of a driver with a token ends so where the cluster has none.
    if "cancelled before it started running" in said:
        said = f"{said.rstrip('.')}. Does the cluster have a token? {token_here()}; give both the same, or none"
    return said


def _write_down(error: Exception, unit: str) -> str:
    if isinstance(error, PipelineError):
        return f"{type(error).__name__}: {error}"
    return f"PipelineError: {unit} failed with {type(error).__name__}: {error}\n{traceback.format_exc()}"


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
    context.execution_no_progress_timeout_s = _NO_PROGRESS_SECONDS
    # By default (Ray 2.60) actors that die in __init__ are started for ever.
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
    name = f"{PROBES}/{ray.get_runtime_context().get_job_id()}"
    see: Any = ray.remote(num_cpus=0)(_sees)
    for node in nodes:
        dataset.store.write(name, b"seen")
        there = see.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False))
        seen = ray.get(there.remote(dataset.uri, name))
        if not seen and dataset.store.exists(name):  # a run that finishes the dataset removes it for all
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
        row = {"unit": unit, "error": problem, "loader": _process(), "load_bytes": peak_memory()}
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
            with quick_start():
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
            "loader": row.get("loader", ""),
            "process": _process(),
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
