import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.kmeans.seeding import kmeans_plus_plus


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
    with pytest.raises(SettingsError, match="2 distinct rows, fewer than num_clusters 3"):
        kmeans_plus_plus(np.array([[1, 2]] * 50 + [[3, 4]], np.float16), 3, 0)


def test_far_groups_are_all_found():
    rng = np.random.default_rng(1)
    centers = 1000 * rng.standard_normal((12, 8))
    sample = np.concatenate([center + rng.standard_normal((40, 8)) for center in centers]).astype(np.float16)
    for seed in range(5):
        found = kmeans_plus_plus(sample, 12, seed)
        nearest = ((found[:, None] - centers) ** 2).sum(-1).argmin(1)
        assert sorted(nearest) == list(range(12))
