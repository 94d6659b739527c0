"""How long encoders computed and what they waited for, from the times of the shards that passed through them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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


def compute(actors: Mapping[int, Iterable[ShardTimes]]) -> Compute | None:
    """Add up what actors computed; None when nothing was encoded or counted.

    Args:
        actors: The shards of each actor, by process id.
    """
    works = [[work for shard in shards for work in shard.work if work.kind == "encode"] for shards in actors.values()]
    gflop = sum(work.gflop for actor in works for work in actor)
    busy = sum(work.busy for actor in works for work in actor)
    peaks = [max(work.peak for work in actor) / 1e9 for actor in works if actor]
    if not (gflop and busy and sum(peaks)):
        return None
    peak = sum(peaks) / len(peaks)
    return Compute(gflop=gflop, gflops=gflop / busy, peak_gflops=peak, share_of_peak=gflop / busy / peak)


def waiting(actors: Mapping[int, Iterable[ShardTimes]], end: float) -> Waiting | None:
    """Add up what actors did from their start to the end of the stage.

    Args:
        actors: The shards of each actor, by process id.
        end: When the stage's last commit landed, seconds since the epoch.

    Returns:
        The shares over all actors; None when nothing was encoded.
    """
    spent = dict.fromkeys(("busy", "reference", "decode", "output", "end"), 0.0)
    for shards in actors.values():
        stretches = sorted(
            ((work, shard) for shard in shards for work in shard.work if work.busy), key=lambda pair: pair[0].began
        )
        if not stretches:
            continue
        free = stretches[0][1].ready
        for work, shard in stretches:
            gap = max(0.0, work.began - free)
            decode = min(gap, max(0.0, shard.arrived - free))
            spent["decode"] += decode
            spent["output"] += gap - decode + max(0.0, work.ended - work.began - work.busy)
            spent["busy" if work.kind == "encode" else "reference"] += work.busy
            free = max(free, work.ended)
        spent["end"] += max(0.0, end - free)
    total = sum(spent.values())
    return Waiting(**{name: seconds / total for name, seconds in spent.items()}) if total else None
