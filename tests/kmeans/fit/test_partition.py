from dataclasses import replace

import numpy as np
import pytest
from made_features import write_features

from pipeline.errors import CorruptDatasetError
from pipeline.kmeans.fit.lloyd import update
from pipeline.kmeans.fit.partition import Budget, Partition, Request, RowSet, Share
from pipeline.kmeans.fit.sample import merge
from pipeline.kmeans.residual import residual
from pipeline.kmeans.search.assignment import nearest

LAYER = RowSet(layer=3, prior=(), name="3")
PLENTY = Budget(num_bytes=1 << 30, num_fits=1, num_clusters=20)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A dataset of five shards, and its rows float16 (N, 6) in order."""
    rng = np.random.default_rng(0)
    shards = []
    for number in range(5):
        counts = rng.integers(1, 900, 4)
        shards.append(
            [
                (f"u{number}-{n}", np.arange(count), (3 * rng.standard_normal((count, 6))).astype(np.float16))
                for n, count in enumerate(counts)
            ]
        )
    dataset = write_features(tmp_path_factory.mktemp("features"), shards)
    return dataset, [np.concatenate([cell for _, _, cell in shard]) for shard in shards]


def shares(features):
    dataset, rows = features
    begins = np.cumsum([0, *map(len, rows)])
    return [
        Share(uri=dataset.uri, unit=unit, begin=int(begin), num_rows=len(found))
        for unit, begin, found in zip(dataset.plan.units, begins, rows, strict=False)
    ]


def partitions(features, count, budget=PLENTY, fraction=1.0):
    found = shares(features)
    return [Partition(found[n::count], [3], budget, 0, 1, fraction) for n in range(count)]


def enough_for(num_rows, num_resident):
    """The budget under which so many of the rows lie in memory."""
    smallest = Budget(num_bytes=1, num_fits=1, num_clusters=20)
    return replace(smallest, num_bytes=smallest.kept_bytes(num_rows, 6) + 2 * 6 * num_resident)


def fit(parts, centroids, iterations, source=LAYER):
    """Centroids after each iteration."""
    history = []
    for _ in range(iterations):
        steps = [part.step({"fit": Request(source=source, centroids=centroids)})["fit"] for part in parts]
        total = steps[0]
        for step in steps[1:]:
            total = total.merged(step)
        centroids = update(total.sums, centroids).centroids
        history.append((centroids.tobytes(), total.squares, total.sums.counts.tolist()))
    return history


def test_partitions_and_memory_change_no_bit(features):
    centroids = features[1][0][:12].astype(np.float32)
    expected = fit(partitions(features, 1), centroids, 6)
    for count in (2, 3, 5):
        assert fit(partitions(features, count), centroids, 6) == expected
    num_rows = sum(map(len, features[1][0::2]))
    little = enough_for(num_rows, num_rows // 2)
    on_disk = partitions(features, 2, little)
    assert 0 < on_disk[0].load() < num_rows
    assert fit(on_disk, centroids, 6) == expected
    none = partitions(features, 1, Budget(num_bytes=1, num_fits=1, num_clusters=20))
    assert none[0].load() == sum(map(len, features[1]))
    assert fit(none, centroids, 6) == expected


def test_a_partition_that_begins_anew_in_the_middle_changes_no_bit(features):
    centroids = features[1][0][:12].astype(np.float32)
    expected = fit(partitions(features, 2), centroids, 6)
    parts = partitions(features, 2)
    half = fit(parts, centroids, 3)
    parts[1] = partitions(features, 2)[1]
    after = np.frombuffer(half[-1][0], np.float32).reshape(centroids.shape)
    assert half + fit(parts, after, 3) == expected


def test_tokens_of_every_iteration_are_the_nearest_centroids(features):
    rows = np.concatenate(features[1])
    (part,), centroids = partitions(features, 1), rows[:30].astype(np.float32)
    for _ in range(5):
        step = part.step({"fit": Request(source=LAYER, centroids=centroids)})["fit"]
        found = nearest(rows, centroids).tokens
        assert step.sums.counts.tolist() == np.bincount(found, minlength=30).tolist()
        assert step.work.by_bounds + step.work.by_list + step.work.by_search == len(rows)
        centroids = update(step.sums, centroids).centroids


def test_fits_of_several_sizes_share_the_rows(features):
    rows = np.concatenate(features[1])
    (part,) = partitions(features, 1)
    tables = {f"k{count}": rows[:count].astype(np.float32) for count in (4, 9)}
    together = part.step({name: Request(source=LAYER, centroids=table) for name, table in tables.items()})
    for name, table in tables.items():
        assert together[name].sums.counts.tolist() == np.bincount(nearest(rows, table).tokens).tolist()


def test_a_residual_stage_is_over_what_the_stages_before_leave(features):
    rows = np.concatenate(features[1])
    first, second = rows[:8].astype(np.float32), (rows[8:16] / 2).astype(np.float32)
    left = residual(rows, first, nearest(rows, first).tokens)
    left = residual(left, second, nearest(left, second).tokens)
    table = left[:5].astype(np.float32)
    source = RowSet(layer=3, prior=(first, second), name="layer_03_k8_q2")
    expected = np.bincount(nearest(left, table).tokens, minlength=5).tolist()
    for budget in (PLENTY, Budget(num_bytes=1, num_fits=1, num_clusters=20, num_sources=1)):
        (part,) = partitions(features, 1, budget)
        step = part.step({"fit": Request(source=source, centroids=table)})["fit"]
        assert step.sums.counts.tolist() == expected
        part.forget("fit", source.key)


@pytest.mark.parametrize("prior", [0, 4])
def test_a_source_of_a_fraction_is_over_the_rows_that_a_partition_of_it_holds(features, prior):
    rows = np.concatenate(features[1])
    books = (rows[:prior].astype(np.float32),) if prior else ()
    source, table = RowSet(layer=3, prior=books, name="rows"), rows[4:9].astype(np.float32)

    def ask(part, source):
        step = part.step({"fit": Request(source=source, centroids=table)})["fit"]
        return step.sums.counts.tolist(), step.squares

    (held,) = partitions(features, 1, fraction=0.2)
    for budget in (replace(PLENTY, warm_start=0.4), Budget(num_bytes=1, num_fits=1, num_clusters=20, warm_start=0.4)):
        for fraction, share in ((1.0, 0.2), (0.5, 0.4)):
            (part,) = partitions(features, 1, budget, fraction=fraction)
            assert ask(part, replace(source, fraction=share)) == ask(held, source)
            part.forget("fit", replace(source, fraction=share).key)


def test_a_sample_is_the_same_for_any_partitions(features):
    whole = partitions(features, 1)[0].sample(LAYER, 100)
    parts = merge([part.sample(LAYER, 100) for part in partitions(features, 3)], 100)
    np.testing.assert_array_equal(parts.rows, whole.rows)
    np.testing.assert_array_equal(parts.numbers, whole.numbers)
    np.testing.assert_array_equal(np.concatenate(features[1])[whole.numbers], whole.rows)
    assert (np.diff(whole.hashes.astype(object)) >= 0).all()


def test_a_fraction_is_a_share_of_the_rows_and_the_smaller_lies_in_the_larger(features):
    rows = np.concatenate(features[1])

    def held(fraction, count=1):
        parts = [Partition(shares(features)[n::count], [3], PLENTY, 0, 1, fraction) for n in range(count)]
        return merge([part.sample(LAYER, len(rows)) for part in parts], len(rows))

    whole, third, tenth = held(1.0), held(0.3), held(0.1)
    assert len(whole.rows) == len(rows)
    assert 0.27 * len(rows) < len(third.rows) < 0.33 * len(rows)
    assert 0.08 * len(rows) < len(tenth.rows) < 0.12 * len(rows)
    assert set(tenth.numbers) < set(third.numbers)
    np.testing.assert_array_equal(third.rows, rows[third.numbers])
    np.testing.assert_array_equal(held(0.3, 3).numbers, third.numbers)


def test_a_value_that_is_not_finite_is_refused_by_layer_utterance_and_frame(tmp_path):
    cell = np.ones((4, 6), np.float16)
    cell[2, 1] = np.nan
    rows = [("good", np.arange(3), np.ones((3, 6), np.float16)), ("bad", np.array([5, 7, 9, 11]), cell)]
    dataset = write_features(tmp_path, [rows], sampled=True)
    with pytest.raises(CorruptDatasetError, match="layer 3 of bad has a value that is not finite in frame 9"):
        Partition([Share(uri=dataset.uri, unit="shard-00000", begin=0, num_rows=7)], [3], PLENTY, 0, 1).load()


@pytest.mark.parametrize("num_rows", [6, 8])
def test_a_shard_with_other_rows_than_its_commit_says_is_refused(tmp_path, num_rows):
    dataset = write_features(tmp_path, [[("a", np.arange(7), np.ones((7, 6), np.float16))]])
    with pytest.raises(CorruptDatasetError, match="does not hold the"):
        Partition([Share(uri=dataset.uri, unit="shard-00000", begin=0, num_rows=num_rows)], [3], PLENTY, 0, 1).load()
