"""The work of one device: batches prepared on the host, computed in turn, halved when they do not fit into memory."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline import faults
from pipeline.features.encoders.encoder import Encoded, PreparedBatch, SslEncoder
from pipeline.work.waiting import Work

_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"
"""What torch's RuntimeError names when the host has no memory; a device has an exception class of its own."""

Prepare = Callable[[Sequence[int]], PreparedBatch]

EncodedRows = tuple[list[int], Encoded | None]
"""Rows and their layers; None for one row that does not fit into memory by itself."""


@dataclass(kw_only=True)
class EncodeLog:
    """What encoding a shard took, filled in as batches are done.

    Attributes:
        samples: Samples of speech encoded.
        padding: Samples of padding encoded with them.
        began: When the device began with the first batch, seconds since the epoch.
        ended: When it ended with the last one.
        busy: Seconds in which it computed.
        splits: Batches that did not fit into memory, each as the rows it would have held, one for each window.
    """

    samples: int = 0
    padding: int = 0
    began: float = 0.0
    ended: float = 0.0
    busy: float = 0.0
    splits: list[list[int]] = field(default_factory=list)

    def work(self, kind: str, *, gflop: float = 0.0, peak: float = 0.0) -> Work:
        """Give the time that it took, as ``kind``, and what was computed; see ``Work``."""
        return Work(kind=kind, began=self.began, ended=self.ended, busy=self.busy, gflop=gflop, peak=peak)


class Turn:
    """The right to give batches to the device; ends once."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock: threading.Lock | None = lock
        lock.acquire()

    def end(self) -> None:
        """Let the next shard begin."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Device:
    """One device and the two threads that feed it and compute on it, for one shard after the other."""

    def __init__(self, device: str) -> None:
        """Start without work.

        Args:
            device: A torch device.
        """
        if device.startswith("cuda"):
            _repeatable_cuda()
        self._device = device
        self._host = ThreadPoolExecutor(1, "prepare")
        self._encoding = ThreadPoolExecutor(1, "encode")
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Wait until the shard before has given its last batch to the device."""
        turn = Turn(self._lock)
        try:
            yield turn
        finally:
            turn.end()

    def submit(
        self,
        encoder: SslEncoder,
        prepare: Prepare,
        members: list[int],
        log: EncodeLog,
        *,
        row: int | None = None,
    ) -> Future[list[EncodedRows]]:
        """Queue a batch: it is prepared while the one before it computes.

        Args:
            encoder: An encoder on this device.
            prepare: Prepares those of the members that it is given.
            members: The rows of the batch, or the windows of one row.
            log: Is filled in when the batch is done.
            row: The row whose windows they are.

        Returns:
            The batch, whole or in the parts that fitted into memory.
        """
        prepared = self._host.submit(prepare, members)
        return self._encoding.submit(self._encode, encoder, prepare, members, prepared, log, row)

    def _encode(
        self,
        encoder: SslEncoder,
        prepare: Prepare,
        members: list[int],
        prepared: Future[PreparedBatch],
        log: EncodeLog,
        row: int | None,
    ) -> list[EncodedRows]:
        """Encode one batch; one that does not fit into memory is halved in its order, and its halves if need be.

        A single utterance that does not fit comes back as None.
        """
        try:
            faults.point("forward", f"batch of {len(members)}")
            batch = prepared.result()
            began = time.time()
            encoded = encoder.encode_half(batch)
            log.ended = time.time()
            log.began = log.began or began
            log.busy += log.ended - began
            return [(members, encoded)]
        except Exception as error:
            if not _out_of_memory(error):
                raise
        # Out of the except clause, so that the traceback no longer holds the tensors that did not fit.
        _free_cached_memory(self._device)
        if len(members) == 1:
            return [(members, None)]
        log.splits.append(members if row is None else [row] * len(members))
        middle = (len(members) + 1) // 2
        results: list[EncodedRows] = []
        for half in (members[:middle], members[middle:]):
            again: Future[PreparedBatch] = Future()
            again.set_result(prepare(half))
            results += self._encode(encoder, prepare, half, again, log, row)
        return results


def _out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_OUT_OF_MEMORY in str(error)


def _free_cached_memory(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _repeatable_cuda() -> None:
    """Ask CUDA for the same bits each time, and for float32 where float32 is meant."""
    import torch

    torch.backends.cudnn.deterministic = True
    # Convolutions would otherwise use TF32, which keeps 10 bits of the mantissa.
    torch.backends.cudnn.allow_tf32 = False
