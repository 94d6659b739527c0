"""What corpora of other sizes would take: workers, cores, network, storage, hours, price, and what gives out first.

Speeds are those that the estimate has measured on a sample; what a driver takes was measured by ``bench.scaling``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.audio.manifest import shard_minutes
from pipeline.errors import SettingsError

DRIVER_SECONDS_PER_SHARD = 0.03
"""CPU time of the driver for a shard, from handing it out to its line of the shard table: ``python -m bench.scaling``
(docs/throughput.md). The driver is one process and has one core for this."""

WORKER_GBIT = 10.0
"""Network into a worker, Gbit/s: what the cloud sells without a word with machines of eight CPUs and more."""

READS_PER_SECOND = 5_500.0
"""GET and HEAD requests that S3 serves from one prefix before it asks to slow down (Amazon's performance guidelines;
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html). It adds partitions in time."""

REQUESTS_PER_FILE, REQUESTS_PER_PART = 2, 1
"""Requests for a recording: its size and its bytes; a member of a tar that is open already has its bytes alone."""

_SAMPLE_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class SizingWishes:
    """What is asked of an estimate beside the run itself.

    Attributes:
        hours: Sizes of corpora like the sample, hours of audio.
        days: Days in which the encoding of each is to be done.
        price: Price of one worker, with its share of everything else, for an hour; None where it is not known.
        speed: Times real time of one worker of another machine; None for the one that was measured.
    """

    hours: tuple[float, ...] = ()
    days: float = 7.0
    price: float | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        if any(not (hours > 0 and math.isfinite(hours)) for hours in self.hours):
            raise SettingsError(f"estimate_hours must be above 0, got {' '.join(map(str, self.hours))}")
        if not (self.days > 0 and math.isfinite(self.days)):
            raise SettingsError(f"estimate_days must be above 0, got {self.days:g}")
        if self.price is not None and not (self.price >= 0 and math.isfinite(self.price)):
            raise SettingsError(f"estimate_price must be at least 0, got {self.price:g}")
        if self.speed is not None and not (self.speed > 0 and math.isfinite(self.speed)):
            raise SettingsError(f"estimate_speed must be above 0, got {self.speed:g}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What an hour of the sample is like, and how fast it is worked on.

    Attributes:
        utterances: Recordings in an hour.
        whole_files: Whether each is a file of its own; else they are parts of larger ones.
        stored_bytes: Bytes of an hour as it is stored; None where a recording's size is not told by its place.
        features_bytes: Bytes of features kept of an hour; 0 where they are kept of a sample of fixed size.
        tokens_bytes: Bytes of tokens of an hour.
        fixed_bytes: Bytes that do not grow with the corpus: features of a sample of fixed size.
        sample_rate: Of decoded audio, Hz.
        passes: Times the corpus is encoded.
        speed: Times real time of one worker.
        decode_speed: Times real time of one core that decodes.
        decode_cores: Cores that decode, for each worker, on the nodes of the estimate; None on other nodes.
        shard_minutes: Minutes of a shard where they are set; None where they follow from the size.
    """

    utterances: float
    whole_files: bool
    stored_bytes: float | None
    features_bytes: float
    tokens_bytes: float
    fixed_bytes: float
    sample_rate: int
    passes: int
    speed: float
    decode_speed: float
    decode_cores: float | None
    shard_minutes: float | None


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a corpus of some size takes.

    Attributes:
        audio_hours: Hours of audio.
        workers: Encoders that do it in the days asked for.
        wall_hours: How long they take, where nothing else holds them up.
        worker_hours: Hours of all of them.
        price: For these hours; None where no price was given.
        decode_cores: Cores that decode beside them.
        read_gbit: Audio out of the store, Gbit/s; None where the sizes of recordings are not known.
        worker_gbit: Decoded audio into each worker, Gbit/s, where it is decoded elsewhere.
        stored_bytes: Bytes of the audio; None where the sizes of recordings are not known.
        output_bytes: Bytes of features and tokens.
        shards: Shards.
        shares: What each thing beside the encoders is asked for, as a share of what it can do.
    """

    audio_hours: float
    workers: int
    wall_hours: float
    worker_hours: float
    price: float | None
    decode_cores: float
    read_gbit: float | None
    worker_gbit: float
    stored_bytes: float | None
    output_bytes: float
    shards: int
    shares: Mapping[str, float]

    @property
    def bottleneck(self) -> str:
        """What holds the run up first."""
        name, share = max(self.shares.items(), key=lambda item: item[1])
        if share <= 1:
            return f"the encoders; next {name}, at {share:.0%} of what it can do"
        return f"{name}: {share:.1f} times what it can do are asked of it"

    def line(self) -> str:
        """Say it in one line."""
        price = "" if self.price is None else f", price {self.price:,.0f}"
        read = "" if self.read_gbit is None else f"{self.read_gbit:.2g} Gbit/s out of the store, "
        audio = "" if self.stored_bytes is None else f"{_bytes(self.stored_bytes)} of audio, "
        return (
            f"{self.workers:,} worker(s) for {self.wall_hours:,.1f} h, {self.worker_hours:,.1f} worker-hours{price}; "
            f"{self.decode_cores:,.1f} cores decode; {read}{self.worker_gbit:.2g} Gbit/s into a worker; "
            f"{audio}{_bytes(self.output_bytes)} of output in {self.shards:,} shards; "
            f"first bottleneck: {self.bottleneck}"
        )


def size_up(sample: Sample, wishes: SizingWishes) -> tuple[Size, ...]:
    """Say what corpora like a sample would take.

    Args:
        sample: What an hour is like.
        wishes: Sizes, days and price.
    """
    return tuple(_size(sample, hours, wishes) for hours in wishes.hours)


def _size(sample: Sample, hours: float, wishes: SizingWishes) -> Size:
    encoded = hours * sample.passes
    worker_hours = encoded / sample.speed
    workers = max(1, math.ceil(worker_hours / (24 * wishes.days)))
    # Seconds of audio a second, of all workers.
    rate = workers * sample.speed
    shard_hours = (sample.shard_minutes or shard_minutes(hours * 3600)) / 60
    utterances_per_second = rate / 3600 * sample.utterances
    requests = REQUESTS_PER_FILE if sample.whole_files else REQUESTS_PER_PART
    worker_gbit = sample.speed * sample.sample_rate * _SAMPLE_BYTES * 8 / 1e9
    decode_cores = rate / sample.decode_speed
    stored = sample.stored_bytes
    shares = {
        "the network into a worker": worker_gbit / WORKER_GBIT,
        "requests to one prefix of the store": utterances_per_second * requests / READS_PER_SECOND,
        "the driver": rate / 3600 / shard_hours * DRIVER_SECONDS_PER_SHARD,
    }
    if sample.decode_cores is not None:
        shares["decoding on these nodes"] = decode_cores / max(1e-9, sample.decode_cores * workers)
    return Size(
        audio_hours=hours,
        workers=workers,
        wall_hours=worker_hours / workers,
        worker_hours=worker_hours,
        price=None if wishes.price is None else wishes.price * worker_hours,
        decode_cores=decode_cores,
        read_gbit=None if stored is None else rate / 3600 * stored * 8 / 1e9,
        worker_gbit=worker_gbit,
        stored_bytes=None if stored is None else stored * hours,
        output_bytes=sample.fixed_bytes + (sample.features_bytes + sample.tokens_bytes) * hours,
        shards=math.ceil(hours / shard_hours),
        shares=shares,
    )


def _bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MB"
