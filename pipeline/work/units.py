"""One unit of work as plain Python: make, commit, and survive a recording that kills its worker.

A runner only calls what is in this file; the tests call it over stores that fail on schedule.
"""

import contextlib
import logging
import multiprocessing
import pickle
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline import faults, schema
from pipeline.errors import PipelineError, StorageError
from pipeline.redaction import redact
from pipeline.schema import Reason
from pipeline.store.commits import Commit
from pipeline.store.dataset import Dataset, Output
from pipeline.work.deaths import DEATHS_ALONE, FOREIGN_DEATHS, Death, wait_after
from pipeline.work.waiting import ShardTimes

logger = logging.getLogger(__name__)

MAX_PLAIN_ATTEMPTS = 2
"""Attempts at a unit in the worker itself; from the next one on, each runs in a child process."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """An utterance that cannot be used, and why."""

    utterance_id: str
    uri: str
    stage: str
    reason: str
    detail: str


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Lay rejects out as rows of ``_rejects``, without the secrets that a detail may quote."""
    rows = [{**vars(reject), "detail": redact(reject.detail)} for reject in rejects]
    return pa.Table.from_pylist(rows, schema=schema.REJECTS)


def reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Count rejects by reason."""
    counts: dict[str, int] = {}
    for reject in rejects:
        counts[reject.reason] = counts.get(reject.reason, 0) + 1
    return dict(sorted(counts.items()))


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One row of a shard on its way to the encoder.

    Attributes:
        utterance_id: Its id.
        uri: Where it came from.
        samples: int16 or float32 (S,) at the encoder's rate; None when it was rejected, or is read by the encoder.
        seconds: Its duration.
        problem: (reason, detail) when it was rejected at decode.
        source: For one too long to be sent, where the encoder's own decoder finds it: JSON values.
        passed_over: What decoding it passed over, as ``PassedOver.to_json`` gives it.
    """

    utterance_id: str
    uri: str
    samples: Any
    seconds: float
    problem: tuple[str, str] | None = None
    source: Mapping[str, Any] | None = None
    passed_over: Mapping[str, Any] | None = None

    @property
    def usable(self) -> bool:
        """Whether it is to be encoded."""
        return self.samples is not None or self.source is not None

    def rejected(self, reason: str, detail: str) -> "Utterance":
        """Give this utterance as one that is not to be encoded."""
        return replace(self, samples=None, source=None, problem=(reason, detail))


class Maker(Protocol):
    """Turns the utterances of one shard into its output; heavy loading happens in its constructor."""

    stage: str

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Make a shard's data and rejects; the same utterances give the same bytes."""

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""


MakerFactory = Callable[[], Maker]
"""Builds a maker; picklable, so that a child process can build its own."""

Load = Callable[[str], list[Utterance]]
"""Gives the utterances of a unit, decoded; picklable."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """One unit that has just been committed, and who did it.

    Attributes:
        commit: Its commit.
        worker: Names the maker that made it, among all of the cluster: on Ray a process, here one of several.
        process: Names the process of that maker. Numbers of processes do not: containers often have the same ones.
        loader: Names the process that decoded it; empty when there was nothing to decode beside the makers.
        load_bytes: Peak resident memory of the decoding process, bytes.
        make_bytes: Peak resident memory of the encoding process, bytes.
        times: When its maker had it.
    """

    commit: Commit
    worker: str
    process: str
    loader: str
    load_bytes: int
    make_bytes: int
    times: ShardTimes


def peak_memory() -> int:
    """Give the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_unit(
    dataset: Dataset,
    unit: str,
    utterances: Sequence[Utterance],
    make: Callable[[str, Sequence[Utterance]], Output],
    *,
    factory: MakerFactory,
    numerics: Mapping[str, str],
) -> Commit:
    """Make and commit one unit, or find it committed.

    Args:
        dataset: The dataset being written.
        unit: Name of the unit.
        utterances: What it is made of.
        make: Makes the output in this process.
        factory: Builds the maker anew in a child process, for a unit that has killed its workers.
        numerics: What the bits may depend on besides the plan; goes into the commit.

    Returns:
        The unit's commit, whoever won it. Files are visible when this returns.
    """
    if commit := dataset.read_commit(unit):
        dataset.publish(commit)
        return commit
    earlier = dataset.attempts(unit)
    attempt = dataset.announce(unit)
    try:
        if earlier < MAX_PLAIN_ATTEMPTS:
            output = make(unit, utterances)
        else:
            logger.warning("%s died in %d attempts; running it in a child process", unit, earlier)
            output = _make_carefully(unit, utterances, factory)
        return dataset.commit(unit, attempt, output, numerics)
    except Exception:
        # It ended, and killed nobody: a full disk or a store that is away is no sign of a recording that kills.
        dataset.retract(unit, attempt)
        raise


def _make_carefully(unit: str, utterances: Sequence[Utterance], factory: MakerFactory) -> Output:
    """Run a unit in children; where they die by their own faults, find and reject the utterances that kill them.

    A unit that merely lived on unlucky machines gives here the same bytes as anywhere.
    """
    children = _Children(unit, factory)
    output = children.make(utterances)
    if output is not None:
        return output
    output = children.make([children.judge(utterance, utterances) for utterance in utterances])
    if output is None:
        raise PipelineError(
            f"{unit} kills the process that makes it, though none of its utterances does so alone; "
            "give workers more memory or lower batch_seconds"
        )
    return output


class _Children:
    """Makes a unit, or utterances of it, in child processes one after the other."""

    def __init__(self, unit: str, factory: MakerFactory) -> None:
        self._unit, self._factory = unit, factory
        self._foreign = 0
        self._death: Death | None = None
        self._survivor: Utterance | None = None

    def make(self, utterances: Sequence[Utterance]) -> Output | None:
        """Make an output in a fresh process; again where it is ended from outside.

        Returns:
            The output; None when the process died by a signal of its own.

        Raises:
            StorageError: Processes are ended from outside again and again.
        """
        while isinstance(found := _in_child(self._factory, self._unit, utterances), Death):
            if found.own:
                self._death = found
                return None
            self._foreign += 1
            if self._foreign >= FOREIGN_DEATHS:
                raise StorageError(
                    f"the process that makes {self._unit} {found.how}, the last of {self._foreign} ends from outside, "
                    "which say nothing of its recordings: is memory short? What is committed stays; give workers more "
                    "memory or lower batch_seconds, and run the same command again"
                )
            time.sleep(wait_after(self._foreign))
        self._foreign = 0
        return found

    def judge(self, utterance: Utterance, others: Sequence[Utterance]) -> Utterance:
        """Reject an utterance that kills process after process alone, while others are encoded between.

        Raises:
            StorageError: What is encoded between kills them, too.
        """
        if not utterance.usable:
            return utterance
        for _ in range(DEATHS_ALONE):
            if self.make([utterance]) is not None:
                self._survivor = utterance
                return utterance
            how = self._death.how if self._death else ""
            self._encode_another(utterance, others)
        return utterance.rejected(
            Reason.ENCODER_CRASH,
            f"encoding this utterance alone killed its process {DEATHS_ALONE} times (it {how}), while others were "
            "encoded between",
        )

    def _encode_another(self, utterance: Utterance, others: Sequence[Utterance]) -> None:
        """See that a process lives that encodes something else: another utterance, or noise in place of this one."""
        noise = np.random.default_rng(0).integers(-3000, 3000, 16_000, dtype=np.int16)
        candidates = [self._survivor] if self._survivor else [other for other in others if other.usable]
        candidates = [other for other in candidates if other.utterance_id != utterance.utterance_id]
        for other in [*candidates[:2], replace(utterance, samples=noise, source=None, seconds=1.0)]:
            if self.make([other]) is not None:
                return
        raise StorageError(
            f"every process that makes utterances of {self._unit} {self._death.how if self._death else 'dies'}: the "
            "encoder does not work here; what is committed stays, run the same command again on a machine where it does"
        )


def _in_child(factory: MakerFactory, unit: str, utterances: Sequence[Utterance]) -> Output | Death:
    """Make an output in a fresh process, or say how that died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # The work goes through our own pipe: multiprocessing (3.11) holds both ends of the one for a process's arguments
    # while it writes them, and waits for ever where the process dies before it has read 64 KiB of them.
    process = context.Process(target=_child, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    result: Output | Exception | None = None
    # A process that dies while it reads or sends leaves half a message.
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        ours.send((factory, unit, list(utterances)))
        result = ours.recv()
    ours.close()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result or Death.of(process.exitcode or 0)


def _child(pipe: Any) -> None:
    try:
        factory, unit, utterances = pipe.recv()
        output = factory().make(unit, utterances)
        beside = {name: bytes(data) for name, data in output.beside.items()}
        pipe.send(replace(output, data=bytes(output.data), beside=beside))
    except Exception as error:
        try:
            pipe.send(error)
        except (pickle.PicklingError, TypeError, AttributeError):
            pipe.send(PipelineError(f"a maker in a child process failed with {type(error).__name__}: {error}"))


def mark(utterances: Sequence[Utterance]) -> None:
    """Pass the fault point of every utterance that is about to be encoded."""
    for utterance in utterances:
        if utterance.usable:
            faults.point("encode", utterance.utterance_id)
