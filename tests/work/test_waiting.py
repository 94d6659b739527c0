import pytest

from pipeline.work.reporting import AUDIO, FEATURES, StageReport
from pipeline.work.waiting import ActorTimes, ShardTimes, Waiting, Work, compute, waiting


def shard(arrived, began, ended, busy, ready=0.0, kind="encode"):
    return ShardTimes(ready=ready, arrived=arrived, work=(Work(kind=kind, began=began, ended=ended, busy=busy),))


def actor(*shards):
    found = ActorTimes()
    for each in shards:
        found.add(each)
    return found


def test_every_second_of_an_actor_is_counted_once_and_by_what_it_waited_for():
    first = shard(arrived=2, began=3, ended=7, busy=3.5)
    second = shard(arrived=8, began=8, ended=9, busy=1)
    found = waiting([actor(second, first)], end=10)
    # 10 s: 2 + 1 for decoding, 1 + 0.5 between arrival and batches, 1 after the last shard.
    assert found is not None
    assert found.busy == pytest.approx(0.45)
    assert found.decode == pytest.approx(0.3)
    assert found.output == pytest.approx(0.15)
    assert found.end == pytest.approx(0.1)


def test_a_shard_that_waits_in_the_actor_makes_no_decode_wait():
    found = waiting([actor(shard(0, 0, 4, 4), shard(1, 4, 8, 4)), actor(shard(0, 0, 8, 8))], end=8)
    assert found is not None
    assert (found.busy, found.decode, found.output, found.end) == (1, 0, 0, 0)


def test_the_reference_is_counted_apart():
    both = ShardTimes(
        ready=0,
        arrived=0,
        work=(Work(kind="encode", began=0, ended=6, busy=6), Work(kind="reference", began=6, ended=8, busy=2)),
    )
    found = waiting([actor(both)], end=8)
    assert found is not None
    assert (found.busy, found.reference) == (0.75, 0.25)


def test_an_actor_holds_no_more_than_its_last_shards_and_loses_no_second_of_them():
    shards = [shard(arrived=10.0 * n, began=10.0 * n + 1, ended=10.0 * n + 8, busy=6.0) for n in range(1000)]
    # Of two shards at a time the later one may be committed first.
    swapped = [shards[place ^ 1] for place in range(1000)]
    found, told = actor(*swapped), waiting([actor(*shards)], end=10_000.0)
    assert len(found._held) <= 8
    assert told == waiting([found], end=10_000.0)
    # Of 10 s each: 6 busy, 1 + 1 for output, 2 for decoding, those behind the last shard for the end.
    assert told is not None
    assert told.busy == pytest.approx(0.6)
    assert told.output == pytest.approx(0.2)
    assert told.decode + told.end == pytest.approx(0.2)


def test_what_was_computed_is_added_up_over_actors():
    work = Work(kind="encode", began=0, ended=2, busy=2, gflop=10, peak=8e9)
    fast, idle = actor(*[ShardTimes(ready=0, arrived=0, work=(work,))] * 3), actor(ShardTimes(ready=0, arrived=0))
    found = compute([fast, idle])
    assert found is not None
    assert (found.gflop, found.gflops, found.peak_gflops, found.share_of_peak) == (30, 5, 8, 0.625)
    assert compute([idle]) is None


def test_without_an_encoder_there_is_nothing_to_say():
    assert waiting([], end=1) is None
    assert waiting([actor(ShardTimes(ready=0, arrived=1))], end=2) is None


def test_a_report_names_what_was_waited_for():
    shares = Waiting(busy=0.5, reference=0.0, decode=0.125, output=0.25, end=0.125)
    common = {"stage": "tokens", "output": "out", "dataset_sha256": "", "units": 1, "units_done_now": 1, "rows": 1,
              "rejects": 0, "reject_reasons": {}, "audio_hours": 1.0, "num_frames": 1, "num_bytes": 1,
              "wall_seconds": 1.0, "times_real_time": 1.0, "waiting": shares}  # fmt: skip
    audio, features = (dict(StageReport(**common, source=source).lines())["encoders"] for source in (AUDIO, FEATURES))
    assert "waiting for decoded audio 12.5%, for output 25.0%, for the last shards 12.5%" in audio
    assert "waiting for features or output 37.5%, for the last shards 12.5%" in features
    assert "audio" not in features
