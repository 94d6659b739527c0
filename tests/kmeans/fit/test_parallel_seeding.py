from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.features.samples.hashing import frame_hash
from pipeline.kmeans.fit import parallel_seeding
from pipeline.kmeans.fit.parallel_seeding import PartitionPull, drawn, gather, nearest_distances, sum_exactly
from pipeline.kmeans.fit.seeding import kmeans_plus_plus, random_rows
from pipeline.kmeans.search import assignment


class SplitPull:
    """Partitions that answer as one, each of which forgets everything after every ``memory`` calls."""

    def __init__(self, parts, memory=10**6):
        self.parts, self.memory, self.calls = parts, memory, 0
        self.pulls = [PartitionPull(*part) for part in parts]

    def ask(self, question, *arguments):
        self.calls += 1
        if self.calls % self.memory == 0:
            self.pulls = [PartitionPull(*part) for part in self.parts]
        return [getattr(pull, question)(*arguments) for pull in self.pulls]

    def potential(self, rounds):
        return sum(self.ask("potential", rounds))

    def choose(self, rounds, potential, expected):
        return np.concatenate(self.ask("choose", rounds, potential, expected))

    def weights(self, rounds):
        return np.sum(self.ask("weights", rounds), axis=0)


def hashes_of(features, seed=0):
    return frame_hash(seed, "u", np.arange(len(features)))


def seeds(features, num_clusters, seed=0, **options):
    """A whole seeding: candidates, their weights, and the centroids."""
    hashes = hashes_of(features, seed)
    first = features[[hashes.argmin()]]
    found = gather(PartitionPull(features, hashes), first, num_clusters, **options)
    return found, kmeans_plus_plus(found.rows, num_clusters, seed, found.weights)


def clustered(seed, count=3000, groups=60, dim=16, spread=1.0):
    rng = np.random.default_rng(seed)
    centers = 4 * rng.standard_normal((groups, dim))
    return (centers[rng.integers(0, groups, count)] + spread * rng.standard_normal((count, dim))).astype(np.float16)


def inertia(features, centroids):
    return nearest_distances(features, centroids.astype(np.float16))[1].sum()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 250), max_size=4),
    st.booleans(),
    st.integers(5, 4000),
    st.integers(1, 6),
)
def test_the_seeding_is_the_same_bits_for_any_partition_block_size_order_and_restart(seed, cuts, grid, block, memory):
    rng = np.random.default_rng(seed)
    features = (rng.integers(-4, 5, (250, 3)) if grid else rng.standard_normal((250, 3))).astype(np.float16)
    hashes, num_clusters = hashes_of(features), 9
    first = features[[hashes.argmin()]]
    expected, centroids = seeds(features, num_clusters)
    order = rng.permutation(250)
    parts = zip(np.split(features[order], sorted(cuts)), np.split(hashes[order], sorted(cuts)), strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "BLOCK_BYTES", 20 * block)
        patch.setattr(parallel_seeding, "PIECE_ROWS", block)
        found = gather(SplitPull(list(parts), memory), first, num_clusters)
    assert found.rows.tobytes() == expected.rows.tobytes()
    assert found.weights.tolist() == expected.weights.tolist()
    assert kmeans_plus_plus(found.rows, num_clusters, 0, found.weights).tobytes() == centroids.tobytes()


def test_a_lost_state_comes_back_as_it_was_where_rounding_hides_the_nearest():
    # The second candidate is nearer to the first row by 2^-48 of 2^22, which float64 cannot tell.
    features = np.array([[0, 0], [2048, 2**-24], [2048, 0]], np.float16)
    rounds = [features[1:2], features[2:]]
    kept, lost = (PartitionPull(features, hashes_of(features)) for _ in range(2))
    assert kept.potential(rounds[:1]) == 2**70 + 1
    assert kept.potential(rounds) == lost.potential(rounds) == 2**70
    assert kept.weights(rounds).tolist() == lost.weights(rounds).tolist() == [2, 1]
    assert nearest_distances(features, np.concatenate(rounds))[0].tolist() == [1, 0, 1]


def test_of_candidates_as_far_the_earliest_has_the_row():
    features = np.array([[0], [1], [2], [3]], np.float16)
    pull = PartitionPull(features, hashes_of(features))
    assert pull.weights([features[2:3], features[:1]]).tolist() == [3, 1]


def test_candidates_are_distinct_rows_weighted_by_the_rows_nearest_to_them():
    features = clustered(0)
    found, _ = seeds(features, 20)
    assert len(np.unique(found.rows, axis=0)) == len(found.rows)
    assert {row.tobytes() for row in found.rows} <= {row.tobytes() for row in features}
    direct = ((features[:, None].astype(np.float64) - found.rows) ** 2).sum(-1).argmin(1)
    assert found.weights.tolist() == np.bincount(direct).tolist()
    assert found.weights.min() >= 1


def test_a_round_draws_about_as_many_rows_as_expected():
    features = clustered(1)
    sizes = [len(seeds(features, 30, seed, num_rounds=1)[0].rows) - 1 for seed in range(20)]
    # 20 rounds of 60 expected draws: the sum strays by 35, and no row pulls so much that it is cut off at 1.
    assert abs(sum(sizes) - 1200) < 4 * 35
    more = [len(seeds(features, 30, seed, num_rounds=5, oversampling=0.5)[0].rows) - 1 for seed in range(20)]
    assert abs(sum(more) - 20 * 75) < 4 * 39


def test_a_row_is_drawn_in_proportion_to_its_distance():
    distances = np.array([0.0, 1.0, 2.0, 3.0, 1000.0])
    numbers = np.linspace(0, 1, 10_001)[:-1]
    potential = sum_exactly(np.concatenate([distances, [994.0]]))
    shares = [drawn(np.full(10_000, distance), numbers, potential, 40).mean() for distance in distances]
    np.testing.assert_allclose(shares, [0, 0.02, 0.04, 0.06, 1], atol=1e-3)


def test_draws_change_with_the_seed_and_the_round():
    features = clustered(2)
    rows = [seeds(features, 10, seed)[0].rows.tobytes() for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    pull = PartitionPull(features, hashes_of(features))
    rounds = [features[:1]]
    potential = pull.potential(rounds)
    chosen = [pull.choose(rounds + [features[:0]] * more, potential, 300) for more in (0, 0, 1)]
    assert chosen[0].tobytes() == chosen[1].tobytes() != chosen[2].tobytes()
    both = {row.tobytes() for row in chosen[0]} & {row.tobytes() for row in chosen[2]}
    assert len(both) < 100


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 2.0**52), max_size=20), st.lists(st.floats(0, 2.0**-20), max_size=20))
def test_the_potential_is_the_sum_of_whole_units(large, small):
    values = np.array([*large, *small])
    exact = [Fraction(value) * 2**48 // 1 for value in values.tolist()]
    assert sum_exactly(values) == sum(exact)


def test_the_potential_is_zero_only_where_every_row_is_a_candidate():
    features = np.zeros((5, 2), np.float16)
    features[3] = [0, 2**-24]
    pull = PartitionPull(features, hashes_of(features))
    assert pull.potential([features[:1]]) == 1
    assert pull.potential([features[:1], features[3:4]]) == 0
    assert pull.weights([features[:1], features[3:4]]).tolist() == [4, 1]


@pytest.mark.parametrize("scale", [2.0**-24, 1.0, 2.0**15])
def test_all_distinct_rows_are_found_where_there_are_just_k(scale):
    steps = scale * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [-1, 0], [-1, -1], [1, -1]])
    features = np.repeat(steps, [1, 900, 3, 60, 1, 1, 5], axis=0).astype(np.float16)
    features[0, 1] = -0.0
    found, centroids = seeds(features, 7)
    assert sorted(centroids.tolist()) == sorted(steps.tolist())
    assert sorted(found.weights.tolist()) == [1, 1, 1, 3, 5, 60, 900]
    with pytest.raises(SettingsError, match="num_clusters is 8, but the features hold only 7 distinct rows"):
        seeds(features, 8)


def test_constant_data_is_refused():
    with pytest.raises(SettingsError, match="only 1 distinct"):
        seeds(np.ones((50, 3), np.float16), 2)


def test_rounds_go_on_until_there_are_enough_candidates():
    # Each row pulls thousands of times more than the one before, so a round takes only a few.
    features = np.concatenate([np.zeros(30), 8.0 ** np.arange(-7, 6)]).astype(np.float16)[:, None]
    found, centroids = seeds(features, 14, num_rounds=1, oversampling=0.1)
    assert len(found.rows) == 14
    assert sorted(centroids[:, 0].tolist()) == [0, *(8.0 ** np.arange(-7, 6)).tolist()]


def test_few_rows_of_a_large_partition_and_empty_partitions_are_no_special_case():
    features = clustered(3, count=40)
    hashes = hashes_of(features)
    parts = [(features[:0], hashes[:0]), (features, hashes), (features[:0], hashes[:0])]
    found = gather(SplitPull(parts), features[:1], 5)
    assert found.weights.sum() == 40


def test_hashes_must_fit_the_rows():
    with pytest.raises(ValueError, match="hashes must be uint64"):
        PartitionPull(np.zeros((3, 2), np.float16), np.zeros(2, np.uint64))


def test_centroids_are_better_than_random_and_as_good_as_those_of_kmeans_plus_plus():
    ours, random, plus_plus = [], [], []
    for seed in range(5):
        features = clustered(seed, groups=40, spread=0.3)
        by_hash = features[np.argsort(hashes_of(features, seed))]
        ours.append(inertia(features, seeds(features, 40, seed)[1]))
        random.append(inertia(features, random_rows(by_hash, 40)))
        plus_plus.append(inertia(features, kmeans_plus_plus(features, 40, seed)))
    assert np.mean(ours) < 0.2 * np.mean(random)
    assert np.mean(ours) < 1.1 * np.mean(plus_plus)
    assert max(ours) < 1.3 * min(plus_plus)
