from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus as sklearn_seeds

from pipeline.errors import SettingsError
from pipeline.kmeans.fit import seeding
from pipeline.kmeans.fit.seeding import given_centroids, kmeans_plus_plus, random_rows


def test_centroids_are_distinct_rows_of_the_sample():
    sample = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float16)
    found = kmeans_plus_plus(sample, 40, 0)
    assert found.dtype == np.float32
    assert len(np.unique(found, axis=0)) == 40
    known = {row.tobytes() for row in sample.astype(np.float32)}
    assert all(row.tobytes() in known for row in found)


def test_the_seed_decides_the_choice():
    sample = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float16)
    assert kmeans_plus_plus(sample, 10, 3).tobytes() == kmeans_plus_plus(sample, 10, 3).tobytes()
    assert kmeans_plus_plus(sample, 10, 3).tobytes() != kmeans_plus_plus(sample, 10, 4).tobytes()


def test_equal_rows_are_chosen_once_while_others_remain():
    sample = np.concatenate([np.zeros((1000, 2)), [[1, 0], [0, 1], [-0.0, 0]]]).astype(np.float16)
    found = kmeans_plus_plus(sample, 3, 0)
    assert sorted(found.tolist()) == [[0, 0], [0, 1], [1, 0]]


def test_too_few_distinct_rows_are_refused_with_their_number():
    with pytest.raises(SettingsError, match="num_clusters is 3, but .* only 2 distinct"):
        kmeans_plus_plus(np.array([[1, 2]] * 50 + [[3, 4]], np.float16), 3, 0)


def test_far_groups_are_all_found():
    rng = np.random.default_rng(1)
    centers = 1000 * rng.standard_normal((12, 8))
    sample = np.concatenate([center + rng.standard_normal((40, 8)) for center in centers]).astype(np.float16)
    for seed in range(5):
        found = kmeans_plus_plus(sample, 12, seed)
        nearest = ((found[:, None] - centers) ** 2).sum(-1).argmin(1)
        assert sorted(nearest) == list(range(12))


def test_the_choice_does_not_depend_on_how_the_product_is_cut(monkeypatch):
    sample = (50 + np.random.default_rng(2).standard_normal((900, 40))).astype(np.float16)
    expected = kmeans_plus_plus(sample, 30, 0)
    for rows, threads in ((1, 1), (17, 3), (4096, 2)):
        monkeypatch.setattr(seeding, "_BLOCK_ROWS", rows)
        assert kmeans_plus_plus(sample, 30, 0, threads=threads).tobytes() == expected.tobytes()


def test_products_on_the_grid_are_exact():
    sample = np.random.default_rng(3).standard_normal((300, 65)).astype(np.float16)
    sample[7] *= np.float16(9)
    grid = seeding._on_grid(sample)
    whole = grid.astype(np.int64)
    assert np.abs(whole).max() > 100
    with ThreadPoolExecutor(2) as pool:
        found = seeding._squared_distances(grid, np.einsum("nd,nd->n", grid, grid), np.array([7, 0, 299]), pool, 2)
    np.testing.assert_array_equal(found, ((whole[[7, 0, 299], None] - whole) ** 2).sum(-1))


def test_rows_far_from_all_others_do_not_hide_the_groups_among_them():
    rng = np.random.default_rng(4)
    centers = rng.standard_normal((10, 8))
    sample = np.concatenate([center + 0.01 * rng.standard_normal((40, 8)) for center in centers]).astype(np.float16)
    sample = np.concatenate([sample, np.full((1, 8), 60000, np.float16)])
    found = kmeans_plus_plus(sample, 11, 0)
    ordinary = found[found[:, 0] < 1000]
    assert sorted(((ordinary[:, None] - centers) ** 2).sum(-1).argmin(1)) == list(range(10))


def test_all_distinct_rows_can_be_chosen():
    sample = np.random.default_rng(5).standard_normal((64, 3)).astype(np.float16)
    sample[32:] = np.nextafter(sample[:32], np.float16(9))
    assert len(np.unique(kmeans_plus_plus(sample, 64, 0), axis=0)) == 64


def test_the_seeds_are_as_good_as_those_of_scikit_learn():
    rng = np.random.default_rng(6)
    centers = rng.standard_normal((60, 16))
    sample = (1.5 * centers[rng.integers(0, 60, 4000)] + rng.standard_normal((4000, 16))).astype(np.float16)

    def inertia(centroids):
        squares = (centroids.astype(np.float64) ** 2).sum(1) - 2 * sample.astype(np.float64) @ centroids.T
        return (squares.min(1) + (sample.astype(np.float64) ** 2).sum(1)).sum()

    ours = [inertia(kmeans_plus_plus(sample, 50, seed)) for seed in range(5)]
    wide = sample.astype(np.float64)
    theirs = [inertia(sklearn_seeds(wide, 50, random_state=seed)[0]) for seed in range(5)]
    assert np.mean(ours) < 1.05 * np.mean(theirs)


def test_a_weight_counts_as_so_many_equal_rows():
    rng = np.random.default_rng(7)
    rows = np.unique(rng.integers(-9, 10, (80, 3)), axis=0).astype(np.float16)
    weights = rng.integers(1, 9, len(rows))
    repeated = np.repeat(rows, weights, axis=0)
    for seed in range(5):
        assert kmeans_plus_plus(rows, 12, seed, weights).tobytes() == kmeans_plus_plus(repeated, 12, seed).tobytes()
    twice = np.concatenate([rows, rows])
    split = np.concatenate([weights, 3 * weights])
    assert kmeans_plus_plus(twice, 12, 0, split).tobytes() == kmeans_plus_plus(rows, 12, 0, 4 * weights).tobytes()


def test_weights_past_the_exact_range_are_scaled_and_none_becomes_nothing():
    rows = np.arange(40, dtype=np.float16)[:, None]
    weights = np.where(np.arange(40) == 7, 2**50, 1)
    assert sorted(kmeans_plus_plus(rows, 40, 0, weights)[:, 0]) == list(range(40))
    assert kmeans_plus_plus(rows, 5, 0, weights)[0] == 7
    large = np.full(40, 2**45)
    small = np.full(40, 2**45 >> 22)
    assert kmeans_plus_plus(rows, 9, 0, large).tobytes() == kmeans_plus_plus(rows, 9, 0, small).tobytes()


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, 0], [1, 2, -1], [1.0, 2.0, 3.0]])
def test_weights_that_are_no_counts_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be"):
        kmeans_plus_plus(np.eye(3, dtype=np.float16), 2, 0, np.array(weights))


def test_random_rows_are_the_first_distinct_ones():
    sample = np.array([[3, 0], [1, 0], [3, -0.0], [2, 5], [1, 0], [9, 9]], np.float16)
    found = random_rows(sample, 3)
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 0], [1, 0], [2, 5]]
    with pytest.raises(SettingsError, match="num_clusters is 5, but the 6 rows sampled for random seeding hold only 4"):
        random_rows(sample, 5)


def test_given_centroids_are_taken_as_float32():
    for dtype in (np.float16, np.float32, np.float64):
        given = np.arange(6).reshape(3, 2).astype(dtype)
        found = given_centroids(given, 3, 2, "book")
        assert (found.dtype, found.tolist()) == (np.float32, given.tolist())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 4), np.float32), "book: centroids are 4 wide, the features 2"),
        (np.zeros((4, 2), np.float32), "book: 4 centroids, but num_clusters is 3"),
        (np.zeros(6, np.float32), "book: centroids must be floats"),
        (np.zeros((3, 2), np.int64), "book: centroids must be floats"),
        (np.array([[0, 0], [0, np.nan], [0, 0]], np.float32), "book: centroid 1 holds"),
        (np.array([[0, 0], [0, 0], [1e39, 0]]), "book: centroid 2 holds"),
    ],
)
def test_given_centroids_that_do_not_fit_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        given_centroids(given, 3, 2, "book")
