"""Work in this process: units, tasks and actors in threads, for what a laptop does in seconds. Nothing is started.

Numpy, faiss and torch let go of Python's lock while they compute, so makers side by side use a core each, as actors
do. What differs from Ray: a recording that kills its encoder kills the run, and the third run finds it; memory is
one process's, which holds a copy of the encoder for each maker.
"""

import contextlib
import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline import faults
from pipeline.errors import PipelineError
from pipeline.store.dataset import Dataset, Output
from pipeline.work.meters import SILENT, Meter
from pipeline.work.runner import RunnerKind
from pipeline.work.runtime import kept_threads, quick_start, set_threads, settle_allocator
from pipeline.work.units import Done, Load, MakerFactory, Utterance, make_unit, peak_memory
from pipeline.work.waiting import ShardTimes, Work
from pipeline.work.worker_shape import Node, WorkerShape

_CALLS_PER_MAKER = 2
"""Threads that call one maker: while a shard has the device, the one before it is quantised and written."""

_LOOK_SECONDS = 0.02

_MEMORY_SHARE = 0.7
"""Of the memory that is free, what actors may plan with; Ray leaves as much."""


class Here:
    """The runner in this process."""

    name: RunnerKind = "here"

    def nodes(self) -> list[Node]:
        """Say what this machine has: the CPUs that this process may use, and one GPU where there is any."""
        return [Node(cpus=len(os.sched_getaffinity(0)), gpus=_gpus(), memory=int(_MEMORY_SHARE * _free_memory()))]

    def meter(self) -> Meter:
        """Give a meter that nobody hears: what is done here is not scraped."""
        return SILENT

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
        """Make and commit units in threads; see ``Runner.units``."""
        settle_allocator()
        with kept_threads(shape.threads):
            work = _Units(dataset, units, load=load, factory=factory, shape=shape, numerics_mode=numerics_mode)
            try:
                yield from work.done()
            finally:
                work.stop()

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
        """Call a function in threads; see ``Runner.tasks``."""
        waiting = iter(arguments)
        with kept_threads(1), ThreadPoolExecutor(workers, "task") as pool:
            running = {pool.submit(function, shared, *some) for some in itertools.islice(waiting, workers)}
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, shared, *some) for some in itertools.islice(waiting, len(ended))}
                for future in ended:
                    yield future.result()

    def actors(
        self, kind: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
    ) -> "HereActors":
        """Make objects, each with a thread of its own; see ``Runner.actors``."""
        settle_allocator()
        return HereActors(kind, arguments)


class HereActors:
    """Objects of one class in this process; see ``runner.Actors``."""

    def __init__(self, kind: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        self._threads = kept_threads(1)
        self._threads.__enter__()
        self._pools = [ThreadPoolExecutor(1, "actor") for _ in arguments]
        self._actors = [pool.submit(kind, *some) for pool, some in zip(self._pools, arguments, strict=True)]

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of each, all at once."""

        def call(actor: Future[Any]) -> Any:
            return getattr(actor.result(), method)(*arguments)

        found = [pool.submit(call, actor) for pool, actor in zip(self._pools, self._actors, strict=True)]
        return [future.result() for future in found]

    def total(self, add: Callable[..., Any], method: str, *arguments: Any) -> Any:
        """Call a method of each and add the answers up."""
        return add(*self.ask(method, *arguments))

    def close(self) -> None:
        """Let go of the objects and end their threads."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)
        self._actors = []
        self._threads.__exit__(None, None, None)


class _Units:
    """Units on their way through loading threads and the threads of makers."""

    def __init__(
        self,
        dataset: Dataset,
        units: Sequence[str],
        *,
        load: Load | None,
        factory: MakerFactory,
        shape: WorkerShape,
        numerics_mode: str,
    ) -> None:
        self._dataset, self._factory, self._numerics_mode = dataset, factory, numerics_mode
        self._compute_threads = shape.threads
        self._load = load
        self._left = iter(units)
        self._count = self._untaken = len(units)
        self._taking, self._opening = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._makers = makers = min(shape.num_workers, len(units))
        # As on Ray: two shards for each maker are decoded ahead of those being encoded.
        self._loaded: queue.Queue[tuple[str, list[Utterance]] | None] = queue.Queue(2 * makers)
        self._results: queue.Queue[Done | BaseException] = queue.Queue()
        callers = makers * _CALLS_PER_MAKER
        self._loaders_left, self._callers = makers, callers
        shared = [_Making(number, self) for number in range(makers)]
        targets = [self._loading] * makers + [shared[number % makers].work for number in range(callers)]
        # Daemons: a second interrupt must not wait for a shard of half an hour.
        self._threads = [threading.Thread(target=self._guarded, args=(target,), daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def done(self) -> Iterator[Done]:
        """Give units as they are committed; raises what a thread raised."""
        for _ in range(self._count):
            found = self._results.get()
            if isinstance(found, BaseException):
                raise found
            yield found

    def stop(self) -> None:
        """End: shards that are being made are committed, no others are begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            # OpenMP counts threads for each thread that calls it.
            set_threads(self._compute_threads)
            target()
        except BaseException as error:
            self._stopped.set()
            self._results.put(error)

    def _loading(self) -> None:
        while not self._stopped.is_set():
            with self._taking:
                unit = next(self._left, None)
            if unit is None:
                break
            faults.point("before_load", unit)
            self._put((unit, self._load(unit) if self._load is not None else []))
        with self._taking:
            self._loaders_left -= 1
            last = self._loaders_left == 0
        for _ in range(self._callers if last else 0):
            self._put(None)

    def _put(self, item: tuple[str, list[Utterance]] | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._loaded.put(item, timeout=0.2)
                return

    def take(self, making: "_Making") -> tuple[str, list[Utterance]] | None:
        """Give a maker the next loaded unit; None at the end."""
        while not self._stopped.is_set():
            # The last units are shared out: one that would wait for a device may find another that is free.
            if 0 < self._untaken < self._makers and making.busy:
                self._stopped.wait(_LOOK_SECONDS)
                continue
            with contextlib.suppress(queue.Empty):
                item = self._loaded.get(timeout=0.2)
                with self._taking:
                    self._untaken -= item is not None
                    making.busy += item is not None
                return item
        return None

    def made(self, making: "_Making") -> None:
        """Say that a maker has made what it took."""
        with self._taking:
            making.busy -= 1

    def commit(self, unit: str, utterances: list[Utterance], making: "_Making") -> None:
        """Make one unit and tell of it."""
        arrived = time.time()
        assert making.maker is not None
        works: list[Work] = []

        def make(name: str, rows: Sequence[Utterance]) -> Output:
            output: Output = making.maker.make(name, rows)
            works.extend(output.work)
            return output

        try:
            commit = make_unit(self._dataset, unit, utterances, make, factory=self._factory, numerics=making.numerics)
        except PipelineError:
            raise
        except Exception as error:
            raise PipelineError(f"{unit} failed with {type(error).__name__}: {error}") from error
        self._results.put(
            Done(
                commit=commit,
                worker=str(making.number),
                process=str(os.getpid()),
                loader="",
                load_bytes=0,
                make_bytes=peak_memory(),
                times=ShardTimes(ready=making.ready, arrived=arrived, work=tuple(works)),
            )
        )

    def open(self) -> tuple[Any, Any]:
        """Build a maker and claim its numerics; one after the other, while those that are ready work."""
        # Threads that import transformers at the same time find it without its classes (5.23).
        with self._opening, quick_start():
            maker = self._factory()
        numerics = maker.numerics()
        self._dataset.claim_numerics(numerics, self._numerics_mode)
        return maker, numerics


class _Making:
    """A maker and the threads that call it; the first of them builds it."""

    def __init__(self, number: int, units: _Units) -> None:
        self.number = number
        self.maker: Any = None
        self.numerics: Any = None
        self.ready = 0.0
        self.busy = 0
        self._units = units
        self._building = threading.Lock()

    def work(self) -> None:
        """Make loaded units until there are no more."""
        with self._building:
            if self.maker is None:
                self.maker, self.numerics = self._units.open()
                self.ready = time.time()
        while (item := self._units.take(self)) is not None:
            self._units.commit(*item, self)
            self._units.made(self)


def _gpus() -> int:
    if not Path("/proc/driver/nvidia/version").exists():
        return 0
    import torch

    return int(torch.cuda.is_available())


def _free_memory() -> int:
    """Give the bytes that this process could still take: of the machine's, or of its control group's limit."""
    free = sys.maxsize
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used)
    return max(free, 1 << 30)
