"""Micro-batches of the next steps, loaded by threads while the present one is computed."""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.training.recipe import Json, Source, Tensors


@dataclass(frozen=True, kw_only=True)
class StepInput:
    """What one worker computes in one step.

    Attributes:
        step: The step, from 0.
        keys: Key of each of its micro-batches.
        batches: Their tensors.
        cursor: Where the data go on after this step.
    """

    step: int
    keys: list[str]
    batches: list[Tensors]
    cursor: Json


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A step whose micro-batches are being loaded."""

    step: int
    keys: list[str]
    loading: list["Future[Tensors]"]
    cursor: Json


_Job = tuple[Any, int, "Future[Tensors]"]


class Feed:
    """Loads this worker's share of each step, in order, a few steps ahead.

    Memory: the micro-batches of ``ahead`` + 2 steps.
    """

    def __init__(
        self,
        source: Source[Any],
        *,
        first_step: int,
        num_steps: int,
        cursor: Json,
        batches_per_step: int,
        rank: int,
        world_size: int,
        loaders: int = 1,
        ahead: int = 2,
    ) -> None:
        self._source = source
        self._steps = range(first_step, num_steps)
        self._cursor = cursor
        self._batches_per_step = batches_per_step
        self._rank, self._world_size = rank, world_size
        self._ready: queue.Queue[_Asked | BaseException | None] = queue.Queue()
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._room = threading.Semaphore(ahead + 2)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._draw, name="feed", daemon=True)]
        self._threads += [
            threading.Thread(target=self._load, name=f"feed-{number}", daemon=True) for number in range(loaders)
        ]

    def __iter__(self) -> Iterator[StepInput]:
        """Start loading and give the steps one after the other.

        Raises:
            Exception: What drawing or loading raised.
        """
        for thread in self._threads:
            thread.start()
        while (asked := self._ready.get()) is not None:
            if isinstance(asked, BaseException):
                raise asked
            batches = [loading.result() for loading in asked.loading]
            yield StepInput(step=asked.step, keys=asked.keys, batches=batches, cursor=asked.cursor)
            self._room.release()

    def close(self) -> None:
        """Stop loading and wait for the threads."""
        self._stopped.set()
        self._room.release()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _draw(self) -> None:
        """Draw tickets and ask for this worker's share of them."""
        try:
            tickets = self._source.tickets(self._cursor)
            for step in self._steps:
                self._room.acquire()
                if self._stopped.is_set():
                    return
                drawn = list(islice(tickets, self._batches_per_step))
                mine = [ticket for ticket, _ in drawn[self._rank :: self._world_size]]
                loading = [self._ask(ticket, step) for ticket in mine]
                keys = [ticket.key for ticket in mine]
                self._ready.put(_Asked(step=step, keys=keys, loading=loading, cursor=drawn[-1][1]))
            self._ready.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
            self._ready.put(error)
        finally:
            # What was asked for before is loaded first.
            for _ in self._threads:
                self._jobs.put(None)

    def _ask(self, ticket: Any, step: int) -> "Future[Tensors]":
        loading: Future[Tensors] = Future()
        self._jobs.put((ticket, step, loading))
        return loading

    def _load(self) -> None:
        """Load what is asked for, until told to stop."""
        while (job := self._jobs.get()) is not None:
            ticket, step, loading = job
            if self._stopped.is_set():
                continue
            try:
                loading.set_result(self._source.load(ticket, step))
            except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
                loading.set_exception(error)
