"""Corpora of other sizes: arithmetic by hand, the first bottleneck, and the flags that ask."""

import pytest

from pipeline.errors import SettingsError
from pipeline.estimation.flags import take_wishes
from pipeline.estimation.sizing import (
    DRIVER_SECONDS_PER_SHARD,
    READS_PER_SECOND,
    WORKER_GBIT,
    Sample,
    SizingWishes,
    size_up,
)


def sample(**changes):
    """An hour of 300 files of 12 s; a worker hears 100 times real time, and a core decodes 1,000 times."""
    hour = {"utterances": 300, "whole_files": True, "stored_bytes": 60e6, "features_bytes": 0.0, "tokens_bytes": 1e6,
            "fixed_bytes": 5e9, "sample_rate": 16_000, "passes": 2, "speed": 100.0, "decode_speed": 1000.0,
            "decode_cores": 0.25, "shard_minutes": None}  # fmt: skip
    return Sample(**{**hour, **changes})


def one(hours, days=7.0, price=None, **changes):
    (found,) = size_up(sample(**changes), SizingWishes(hours=(hours,), days=days, price=price))
    return found


def test_workers_hours_and_price_are_those_of_the_days_asked_for():
    found = one(100_000, days=5, price=0.5)
    # 200,000 h are encoded, 2,000 worker-hours, in 120 h.
    assert (found.worker_hours, found.workers, found.price) == (2000, 17, 1000)
    assert found.wall_hours == pytest.approx(2000 / 17)
    assert found.wall_hours <= 120
    assert one(100_000, days=5).price is None
    assert one(1).workers == 1


def test_storage_and_network_follow_from_an_hour_of_the_sample():
    found = one(100_000, days=5)
    assert found.stored_bytes == pytest.approx(6e12)
    assert found.output_bytes == pytest.approx(5e9 + 1e11)
    assert found.shards == 200_000
    assert one(64).shards == 256
    assert one(100_000, shard_minutes=60.0).shards == 100_000
    # 17 workers hear 1,700 s a second.
    assert found.read_gbit == pytest.approx(1700 / 3600 * 60e6 * 8 / 1e9)
    assert found.worker_gbit == pytest.approx(100 * 16_000 * 2 * 8 / 1e9)
    assert found.decode_cores == pytest.approx(1.7)
    unknown = one(100, stored_bytes=None)
    assert unknown.read_gbit is unknown.stored_bytes is None
    assert "out of the store" not in unknown.line()


def test_each_thing_can_be_the_first_bottleneck():
    assert one(1000).bottleneck == "the encoders; next decoding on these nodes, at 40% of what it can do"
    slow = one(1000, decode_speed=100.0)
    assert slow.bottleneck == "decoding on these nodes: 4.0 times what it can do are asked of it"
    plenty = {"decode_speed": 1e9}
    fast = one(1000, speed=1e5, utterances=60, **plenty)
    assert fast.shares["the network into a worker"] == pytest.approx(1e5 * 256e3 / 1e9 / WORKER_GBIT)
    assert fast.bottleneck.startswith("the network into a worker: 2.6 times")
    files = one(1e6, days=1, speed=1000.0, utterances=3600, **plenty)
    assert files.workers == 84
    assert files.shares["requests to one prefix of the store"] == pytest.approx(84_000 * 2 / READS_PER_SECOND)
    assert files.bottleneck.startswith("requests to one prefix of the store: 30.5 times")
    tars = one(1e6, days=1, speed=1000.0, utterances=3600, whole_files=False, **plenty)
    assert tars.shares["requests to one prefix of the store"] == pytest.approx(84_000 / READS_PER_SECOND)
    short = one(1e6, days=1, speed=1000.0, utterances=1, shard_minutes=0.1, **plenty)
    assert short.shares["the driver"] == pytest.approx(84_000 / 6 * DRIVER_SECONDS_PER_SHARD)
    assert short.bottleneck.startswith("the driver: ")


@pytest.mark.parametrize(
    ("words", "flags", "wishes"),
    [
        ("--output o", "--output o", None),
        ("--estimate --output o", "--output o", {}),
        ("--output o --estimate", "--output o", {}),
        ("--estimate --estimate-hours 1e3 100000 --output o", "--output o", {"hours": (1000.0, 100_000.0)}),
        ("--estimate_hours=5 --layers 2 4 --estimate", "--layers 2 4", {"hours": (5.0,)}),
        ("--estimate --estimate-days 2 --estimate-price 3.5", "", {"days": 2.0, "price": 3.5}),
    ],
)
def test_wishes_are_taken_out_of_the_command_line(words, flags, wishes):
    assert take_wishes(words.split()) == (flags.split(), wishes)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--estimate-hours 5", "--estimate-hours says what an estimate is to size up; add --estimate"),
        ("--estimate --estimate-hours", "takes one or more numbers"),
        ("--estimate --estimate-days 1 2", "takes one number, got 2"),
        ("--estimate --estimate-price cheap", "takes numbers, got 'cheap'"),
    ],
)
def test_wrong_wishes_are_refused(words, said):
    with pytest.raises(SettingsError, match=said):
        take_wishes(words.split())


def test_of_other_machines_no_decoding_is_known():
    found = one(1000, decode_cores=None, decode_speed=1.0)
    assert found.decode_cores == 100
    assert "decoding" not in found.bottleneck


@pytest.mark.parametrize(
    "wrong", [{"speed": 0.0}, {"hours": (0.0,)}, {"hours": (float("nan"),)}, {"days": 0.0}, {"price": -1.0}]
)
def test_sizes_that_are_none_are_refused(wrong):
    with pytest.raises(SettingsError, match="estimate_"):
        SizingWishes(**wrong)
