"""Micro-batches of the next steps, loaded by a thread while the present one is computed."""

import queue
import threading
from collections.abc import Iterator
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
        ahead: int = 2,
    ) -> None:
        self._source = source
        self._steps = range(first_step, num_steps)
        self._cursor = cursor
        self._batches_per_step = batches_per_step
        self._rank, self._world_size = rank, world_size
        self._ready: queue.Queue[StepInput | BaseException | None] = queue.Queue(maxsize=ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def __iter__(self) -> Iterator[StepInput]:
        """Start loading and give the steps one after the other.

        Raises:
            Exception: What loading raised.
        """
        self._thread.start()
        while (found := self._ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """Stop loading and wait for the thread."""
        self._stopped.set()
        while self._thread.is_alive():
            # A full queue would keep the thread from seeing that it is to stop.
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _work(self) -> None:
        try:
            tickets = self._source.tickets(self._cursor)
            for step in self._steps:
                drawn = list(islice(tickets, self._batches_per_step))
                mine = [ticket for ticket, _ in drawn[self._rank :: self._world_size]]
                batches = []
                for ticket in mine:
                    if self._stopped.is_set():
                        return
                    batches.append(self._source.load(ticket, step))
                keys = [ticket.key for ticket in mine]
                self._ready.put(StepInput(step=step, keys=keys, batches=batches, cursor=drawn[-1][1]))
            self._ready.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
            self._ready.put(error)
