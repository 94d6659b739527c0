"""From the waveforms of a shard to their features, batch by batch: what an encoder actor holds. Knows no Ray.

    plan of batches -> prepare (host thread) -> encode (device thread) -> pieces, for whoever quantises or stores them

While a caller works on one batch, the next is on the device and the one after it on its way there. Batches, and so
the bits of every feature, follow from the lengths of the utterances given and from nothing else.

Costs: the encoder's forward passes. Memory: three batches: waveforms of one, activations of one, float16 features
of two, 2 L D bytes a frame (a minute at L = 5, D = 1024: 31 MB).
"""

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from pipeline import faults
from pipeline.audio.batching import Batch, plan_batches
from pipeline.audio.decode import to_float32
from pipeline.features.encoder import Encoded, PreparedBatch, SslEncoder
from pipeline.runtime import set_threads
from pipeline.schema import Reason
from pipeline.waiting import Work

_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"
"""What torch's RuntimeError names when the host has no memory; a device has an exception class of its own."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Features of an utterance, or of a stretch of a long one.

    Attributes:
        row: The utterance, by its place among those given.
        first_frame: Place of the first frame in the utterance.
        features: By layer, float16 (T, D).
    """

    row: int
    first_frame: int
    features: dict[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An utterance that has no usable features; pieces of it that came before are void.

    Attributes:
        row: The utterance, by its place among those given.
        reason: The code for ``_rejects``.
        detail: One sentence for a person.
    """

    row: int
    reason: Reason
    detail: str


@dataclass(kw_only=True)
class EncodeLog:
    """What encoding a shard took, filled in as batches are done.

    Attributes:
        samples: Samples of speech encoded.
        padding: Samples of padding encoded with them.
        began: When the device began with the first batch, seconds since the epoch.
        ended: When it ended with the last one.
        busy: Seconds in which it computed.
        splits: Batches that did not fit into memory, each as the rows it would have held.
    """

    samples: int = 0
    padding: int = 0
    began: float = 0.0
    ended: float = 0.0
    busy: float = 0.0
    splits: list[list[int]] = field(default_factory=list)

    def work(self, kind: str) -> Work:
        """Give the time that it took, as ``kind``."""
        return Work(kind=kind, began=self.began, ended=self.ended, busy=self.busy)


class _Turn:
    """The right to give batches to the device; ends once."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock: threading.Lock | None = lock
        lock.acquire()

    def end(self) -> None:
        """Let the next shard begin."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _DeviceThreads:
    """The two threads that feed one device and compute on it, for one shard after the other."""

    def __init__(self) -> None:
        self.host = ThreadPoolExecutor(1, "prepare")
        self.device = ThreadPoolExecutor(1, "encode")
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[_Turn]:
        """Wait until the shard before has given its last batch to the device."""
        turn = _Turn(self._lock)
        try:
            yield turn
        finally:
            turn.end()


class FeatureExtractor:
    """An encoder with its batch rule; gives float16 features.

    Attributes:
        encoder: The loaded encoder.
        device: The torch device, as given.
    """

    def __init__(
        self,
        *,
        encoder: str,
        layers: Sequence[int],
        dtype: str = "float32",
        device: str = "cpu",
        normalize_waveform: bool | None = None,
        batch_seconds: float = 16.0,
        threads: int = 1,
        revision: str | None = None,
    ) -> None:
        """Load the encoder, after setting this process's threads.

        Args:
            encoder: Local folder, ``s3://`` folder, or Hugging Face name.
            layers: Layers to give.
            dtype: ``float32`` or ``bfloat16``, of the encoder's arithmetic.
            device: A torch device.
            normalize_waveform: Overrides what ``preprocessor_config.json`` says.
            batch_seconds: Padded seconds of audio in one batch, at most.
            threads: Compute threads on CPU.
            revision: Git revision of a Hugging Face name.

        Raises:
            EncoderError: The encoder cannot be loaded, or has not these layers.
        """
        set_threads(threads)
        if device.startswith("cuda"):
            _repeatable_cuda()
        self.device = device
        self.encoder = SslEncoder.from_pretrained(
            encoder,
            layers=layers,
            dtype=dtype,
            device=device,
            normalize_waveform=normalize_waveform,
            revision=revision,
        )
        self._max_batch_samples = max(1, round(batch_seconds * self.encoder.sample_rate))
        self._threads = _DeviceThreads()

    def beside(self, other: "FeatureExtractor") -> "FeatureExtractor":
        """Compute in turn with another extractor on the same device; give this one."""
        self._threads = other._threads
        return self

    def alone(self) -> "FeatureExtractor":
        """Give an extractor with the same loaded encoder that encodes every utterance by itself."""
        other = copy.copy(self)
        other._max_batch_samples = 1
        return other

    def stream(self, waveforms: Sequence[np.ndarray], log: EncodeLog | None = None) -> Iterator[Piece | Rejected]:
        """Encode the utterances of a shard. Batches depend on their lengths alone.

        Args:
            waveforms: int16, or float32 in [-1, 1], (S,) each, at the encoder's rate. They are not changed.
            log: Is filled in as batches are done.

        Yields:
            A result for each utterance, batch by batch, shortest first; unusable ones before all others.
        """
        log = EncodeLog() if log is None else log
        ready: list[int] = []
        for row, waveform in enumerate(waveforms):
            problem = self._problem(row, waveform)
            if problem is None:
                ready.append(row)
            else:
                yield problem
        batches = plan_batches(
            [len(waveforms[row]) for row in ready],
            max_batch_samples=self._max_batch_samples,
            equal_lengths=not self.encoder.can_pad,
        )
        threads = self._threads
        running: Future[list[tuple[list[int], Encoded | None]]] | None = None
        with threads.turn() as turn:
            for number, batch in enumerate(batches):
                members = [ready[position] for position in batch.rows]
                prepared = threads.host.submit(self._prepare, waveforms, members)
                following = threads.device.submit(self._encode, waveforms, members, prepared, log)
                _count(log, batch, [len(waveforms[row]) for row in members])
                if number == len(batches) - 1:
                    turn.end()
                if running is not None:
                    yield from self._pieces(running.result())
                running = following
        if running is not None:
            yield from self._pieces(running.result())

    def extract(
        self, waveforms: Sequence[np.ndarray], log: EncodeLog | None = None
    ) -> list[dict[int, np.ndarray] | Rejected]:
        """Encode utterances and give whole results in the order given; see ``stream``.

        Args:
            waveforms: As for ``stream``.
            log: Is filled in as batches are done.

        Returns:
            For each utterance its features by layer, float16 (T, D), or why it has none.
        """
        pieces: dict[int, list[Piece]] = {}
        results: dict[int, dict[int, np.ndarray] | Rejected] = {}
        for found in self.stream(waveforms, log):
            if isinstance(found, Rejected):
                results[found.row] = found
            else:
                pieces.setdefault(found.row, []).append(found)
        for row, parts in pieces.items():
            results.setdefault(row, join_pieces(parts))
        return [results[row] for row in range(len(waveforms))]

    def _problem(self, row: int, waveform: np.ndarray) -> Rejected | None:
        if len(waveform) < self.encoder.receptive_field:
            detail = f"{len(waveform)} samples; one frame of the encoder needs {self.encoder.receptive_field}"
            return Rejected(row=row, reason=Reason.TOO_SHORT, detail=detail)
        # Integers are finite; only floats are worth a pass over the samples.
        if waveform.dtype.kind == "f" and not np.isfinite(waveform).all():
            detail = "the waveform holds values that are not finite"
            return Rejected(row=row, reason=Reason.NOT_FINITE, detail=detail)
        return None

    def _prepare(self, waveforms: Sequence[np.ndarray], members: Sequence[int]) -> PreparedBatch:
        return self.encoder.prepare([to_float32(waveforms[row]) for row in members])

    def _encode(
        self,
        waveforms: Sequence[np.ndarray],
        members: list[int],
        prepared: Future[PreparedBatch],
        log: EncodeLog,
    ) -> list[tuple[list[int], Encoded | None]]:
        """Encode one batch; one that does not fit into memory is halved in its order, and its halves if need be.

        A single utterance that does not fit comes back as None.
        """
        try:
            faults.point("forward", f"batch of {len(members)}")
            batch = prepared.result()
            began = time.time()
            encoded = self.encoder.encode_half(batch)
            log.ended = time.time()
            log.began = log.began or began
            log.busy += log.ended - began
            return [(members, encoded)]
        except Exception as error:
            if not _out_of_memory(error):
                raise
        # Out of the except clause, so that the traceback no longer holds the tensors that did not fit.
        _free_cached_memory(self.device)
        if len(members) == 1:
            return [(members, None)]
        log.splits.append(members)
        middle = (len(members) + 1) // 2
        results = []
        for half in (members[:middle], members[middle:]):
            again: Future[PreparedBatch] = Future()
            again.set_result(self._prepare(waveforms, half))
            results += self._encode(waveforms, half, again, log)
        return results

    def _pieces(self, results: list[tuple[list[int], Encoded | None]]) -> Iterator[Piece | Rejected]:
        for members, encoded in results:
            if encoded is None:
                detail = "one utterance alone needs more memory than there is; lower --window-seconds"
                yield Rejected(row=members[0], reason=Reason.ENCODER_MEMORY, detail=detail)
                continue
            for row, half_LTD, peaks_L in zip(members, encoded.features, encoded.peaks, strict=True):
                yield self._piece(row, half_LTD, peaks_L)

    def _piece(self, row: int, half_LTD: np.ndarray, peaks_L: np.ndarray) -> Piece | Rejected:
        for layer, half_TD, peak in zip(self.encoder.layers, half_LTD, peaks_L, strict=True):
            if not np.isfinite(peak):
                detail = f"layer {layer} holds values that are not finite"
                return Rejected(row=row, reason=Reason.NOT_FINITE, detail=detail)
            # 65,520 and above round to infinity; what is just below rounds to the largest number.
            if peak > np.finfo(np.float16).max and not np.isfinite(half_TD).all():
                detail = f"layer {layer} holds {peak:.6g}, and float16 ends at 65504"
                return Rejected(row=row, reason=Reason.FEATURE_OVERFLOW, detail=detail)
        return Piece(row=row, first_frame=0, features=dict(zip(self.encoder.layers, half_LTD, strict=True)))


def join_pieces(pieces: Sequence[Piece]) -> dict[int, np.ndarray]:
    """Join the pieces of one utterance, given in their order.

    Returns:
        By layer, float16 (T, D).
    """
    if len(pieces) == 1:
        return pieces[0].features
    return {layer: np.concatenate([piece.features[layer] for piece in pieces]) for layer in pieces[0].features}


def _count(log: EncodeLog, batch: Batch, lengths: Sequence[int]) -> None:
    log.samples += sum(lengths)
    log.padding += len(lengths) * batch.num_samples - sum(lengths)


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
