"""One unit of work as plain Python: make, commit, and survive a recording that kills its worker.

A runner only calls what is in this file; the tests call it over stores that fail on schedule.
"""

import contextlib
import logging
import multiprocessing
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

from pipeline import faults, schema
from pipeline.errors import PipelineError
from pipeline.redaction import redact
from pipeline.schema import Reason
from pipeline.store.dataset import Commit, Dataset, Output
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
    """

    utterance_id: str
    uri: str
    samples: Any
    seconds: float
    problem: tuple[str, str] | None = None
    source: Mapping[str, Any] | None = None

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
        worker: Names the maker that made it: a process on Ray, one of several in this process.
        load_pid: Process that decoded it, 0 when there was nothing to decode.
        make_pid: Process that encoded it.
        load_bytes: Peak resident memory of the decoding process, bytes.
        make_bytes: Peak resident memory of the encoding process, bytes.
        times: When its maker had it.
    """

    commit: Commit
    worker: int
    load_pid: int
    make_pid: int
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
    if earlier < MAX_PLAIN_ATTEMPTS:
        output = make(unit, utterances)
    else:
        logger.warning("%s died in %d attempts; running it in a child process", unit, earlier)
        output = _make_carefully(unit, utterances, factory)
    return dataset.commit(unit, attempt, output, numerics)


def _make_carefully(unit: str, utterances: Sequence[Utterance], factory: MakerFactory) -> Output:
    """Run a unit in a child; if the child dies, find the utterances that kill it alone and reject them.

    A unit that merely lived on unlucky machines gives here the same bytes as anywhere.
    """
    output = _in_child(factory, unit, utterances)
    if output is not None:
        return output
    survivors = []
    for utterance in utterances:
        if utterance.usable and _in_child(factory, unit, [utterance]) is None:
            utterance = utterance.rejected(
                Reason.ENCODER_CRASH, "encoding this utterance alone killed the process that did it"
            )
        survivors.append(utterance)
    output = _in_child(factory, unit, survivors)
    if output is None:
        raise PipelineError(
            f"{unit} kills the process that makes it, though none of its utterances does so alone; "
            "give workers more memory or lower batch_seconds"
        )
    return output


def _in_child(factory: MakerFactory, unit: str, utterances: Sequence[Utterance]) -> Output | None:
    """Make an output in a fresh process; None when the process died."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, factory, unit, list(utterances)), daemon=True)
    process.start()
    sender.close()
    result: Output | Exception | None = None
    with contextlib.suppress(EOFError):
        result = receiver.recv()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _child(sender: Any, factory: MakerFactory, unit: str, utterances: list[Utterance]) -> None:
    try:
        output = factory().make(unit, utterances)
        beside = {name: bytes(data) for name, data in output.beside.items()}
        sender.send(replace(output, data=bytes(output.data), beside=beside))
    except Exception as error:
        sender.send(error)


def mark(utterances: Sequence[Utterance]) -> None:
    """Pass the fault point of every utterance that is about to be encoded."""
    for utterance in utterances:
        if utterance.usable:
            faults.point("encode", utterance.utterance_id)
