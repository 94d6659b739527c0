"""How long encoders computed and what they waited for, from the times of the shards that passed through them."""

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_HELD = 8
"""Stretches of an actor's work that wait for an earlier one: those of more shards than an actor has at a time."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A stretch in which an actor's device had a shard. Times are seconds since the epoch, of the actor's clock.

    Attributes:
        kind: ``encode``, or ``reference`` for utterances encoded again to measure agreement.
        began: When its first batch began.
        ended: When its last one ended.
        busy: Seconds between the two in which the device computed.
        gflop: What the encoding of its speech costs without padding or overlap, 10^9 operations.
        peak: Fastest matrix product of the device, operations a second.
    """

    kind: str
    began: float
    ended: float
    busy: float
    gflop: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ShardTimes:
    """What one actor did for one shard.

    Attributes:
        ready: When the actor had loaded what it needs.
        arrived: When the shard, decoded, came into the actor.
        work: What its device did.
    """

    ready: float
    arrived: float
    work: tuple[Work, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What the encoders of a stage did with their time: shares that add up to 1.

    Attributes:
        busy: The device computed.
        reference: It computed a reference to measure agreement.
        decode: No shard was there: decoding was behind.
        output: A shard was there, but its features were being quantised or laid out, or its next batch prepared.
        end: An actor had done its last shard and others had not.
    """

    busy: float
    reference: float
    decode: float
    output: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What the encoders of a stage computed, by counted arithmetic.

    Attributes:
        gflop: Operations for the speech itself, 10^9: padding and overlap of windows are no work.
        gflops: The same for each second in which a device computed, 10^9 operations a second and device.
        peak_gflops: Fastest matrix product of a device, the mean over devices.
        share_of_peak: ``gflops`` over ``peak_gflops``.
    """

    gflop: float
    gflops: float
    peak_gflops: float
    share_of_peak: float


class ActorTimes:
    """Adds up what one actor did, shard by shard. It holds the last few shards, so it does not grow with the corpus.

    An actor has two shards at a time, and the later one may be committed first.
    """

    def __init__(self) -> None:
        self.ready = float("inf")
        self.gflop = self.busy = self.peak = 0.0
        self._spent = dict.fromkeys(("busy", "reference", "decode", "output"), 0.0)
        self._held: list[tuple[Work, float]] = []
        self._free: float | None = None

    def add(self, shard: ShardTimes) -> None:
        """Take in a shard."""
        self.ready = min(self.ready, shard.ready)
        for work in shard.work:
            if work.kind == "encode":
                self.gflop += work.gflop
                self.busy += work.busy
                self.peak = max(self.peak, work.peak)
            if work.busy:
                bisect.insort(self._held, (work, shard.arrived), key=lambda held: held[0].began)
        while len(self._held) > _HELD:
            self._free = self._count(self._spent, self._free, *self._held.pop(0))

    def spent(self, end: float) -> dict[str, float]:
        """Give the seconds that the actor spent on each thing from its start to the end of the stage."""
        spent, free = dict(self._spent), self._free
        for work, arrived in self._held:
            free = self._count(spent, free, work, arrived)
        return {**spent, "end": 0.0 if free is None else max(0.0, end - free)}

    def _count(self, spent: dict[str, float], free: float | None, work: Work, arrived: float) -> float:
        """Count a stretch and the gap before it; gives when the device was free again."""
        free = self.ready if free is None else free
        gap = max(0.0, work.began - free)
        decode = min(gap, max(0.0, arrived - free))
        spent["decode"] += decode
        spent["output"] += gap - decode + max(0.0, work.ended - work.began - work.busy)
        spent["busy" if work.kind == "encode" else "reference"] += work.busy
        return max(free, work.ended)


def compute(actors: Iterable[ActorTimes]) -> Compute | None:
    """Add up what actors computed; None when nothing was encoded or counted."""
    found = list(actors)
    gflop, busy = sum(actor.gflop for actor in found), sum(actor.busy for actor in found)
    peaks = [actor.peak / 1e9 for actor in found if actor.busy]
    if not (gflop and busy and sum(peaks)):
        return None
    peak = sum(peaks) / len(peaks)
    return Compute(gflop=gflop, gflops=gflop / busy, peak_gflops=peak, share_of_peak=gflop / busy / peak)


def waiting(actors: Iterable[ActorTimes], end: float) -> Waiting | None:
    """Add up what actors did from their start to the end of the stage.

    Args:
        actors: What each did.
        end: When the stage's last commit landed, seconds since the epoch.

    Returns:
        The shares over all actors; None when nothing was encoded.
    """
    spent: Counter[str] = Counter()
    for actor in actors:
        spent.update(actor.spent(end))
    total = spent.total()
    return Waiting(**{name: seconds / total for name, seconds in spent.items()}) if total else None
