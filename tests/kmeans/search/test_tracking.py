import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kmeans.search.assignment import CentroidTable, nearest
from pipeline.kmeans.search.tracking import Tracker


def clustered(rng, num_rows, dim, spread=1.0):
    centers = 3 * rng.standard_normal((20, dim))
    return (centers[rng.integers(0, 20, num_rows)] + spread * rng.standard_normal((num_rows, dim))).astype(np.float16)


def follow(features, tables, block_rows):
    """Track rows over moves, comparing with a plain search at each; give the work of each move."""
    tracker, works = Tracker(len(features)), []
    for table in tables:
        before = tracker.tokens.copy()
        tracker.move(CentroidTable(table))
        for begin in range(0, len(features), block_rows):
            block = features[begin : begin + block_rows]
            np.testing.assert_array_equal(tracker.assign(begin, block), before[begin : begin + len(block)])
        np.testing.assert_array_equal(tracker.tokens, nearest(features, table, engine="faiss").tokens)
        work = tracker.work
        assert work.by_bounds + work.by_list + work.by_search == len(features)
        assert work.changed == (tracker.tokens != before).sum()
        works.append(work)
    return works


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(64, 300), (96, 40), (3, 12)]),
    st.lists(st.sampled_from([0.0, 1e-3, 0.02, 0.2, 3.0]), min_size=1, max_size=6),
    st.integers(0, 5),
    st.sampled_from([1, 97, 4096]),
)
def test_tokens_are_those_of_a_plain_search_whatever_moves(seed, shape, steps, num_far, block_rows):
    """Each step moves all centroids by about its length, and some of them far away."""
    rng = np.random.default_rng(seed)
    dim, count = shape
    features = clustered(rng, 40 if block_rows == 1 else 600, dim)
    tables = [features[rng.integers(0, len(features), count)].astype(np.float32)]
    for step in steps:
        moved = tables[-1] + (step * rng.standard_normal((count, dim)) / dim**0.5).astype(np.float32)
        far = rng.integers(0, count, num_far)
        moved[far] = features[rng.integers(0, len(features), num_far)]
        tables.append(moved)
    follow(features, tables, block_rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_ties_on_a_grid_go_to_the_lower_index_after_every_move(seed, moves):
    rng = np.random.default_rng(seed)
    features = rng.integers(-2, 3, (400, 4)).astype(np.float16)
    tables = [rng.integers(-2, 3, (20, 4)).astype(np.float32)]
    for _ in range(moves):
        steps = rng.integers(-1, 2, (20, 4)) * (rng.random((20, 1)) < 0.2)
        tables.append((tables[-1] + steps).astype(np.float32))
    follow(features, tables, 128)


def small_moves(rng, table, count, length):
    tables = [table]
    for _ in range(count):
        offsets = rng.standard_normal(table.shape)
        tables.append((tables[-1] + length * offsets / np.linalg.norm(offsets, axis=1)[:, None]).astype(np.float32))
    return tables


def test_each_path_is_taken_while_centroids_slow_down():
    rng = np.random.default_rng(1)
    features = clustered(rng, 4000, 64)
    table = features[:300].astype(np.float32)
    tables = [table]
    for length in (0.5, 0.2, 0.05, 0.01, 0.01, 0.003):
        tables += small_moves(rng, tables[-1], 1, length)[1:]
    works = follow(features, tables, 1024)
    assert works[0].by_search == len(features)
    assert works[-1].by_search < len(features) / 4
    assert sum(work.by_bounds for work in works) > 0
    assert max(work.by_list for work in works) > len(features) / 10


@pytest.mark.parametrize("num_far", [1, 4])
def test_a_few_that_move_far_leave_the_lists_of_others_in_use(num_far):
    rng = np.random.default_rng(2)
    features = clustered(rng, 4000, 64)
    tables = small_moves(rng, features[:300].astype(np.float32), 6, 0.01)
    for number, table in enumerate(tables[3:], 3):
        table[rng.integers(0, 300, num_far)] = features[1000 + number]
    works = follow(features, tables, 1024)
    assert works[-1].by_search < len(features) / 2


def test_a_centroid_that_comes_from_afar_takes_rows_whose_lists_lack_it():
    rng = np.random.default_rng(3)
    features = clustered(rng, 2000, 64)
    tables = small_moves(rng, features[:300].astype(np.float32), 4, 1e-3)
    tables[0][7] = tables[1][7] = tables[2][7] = tables[3][7] = 500
    tables[4][7] = features[1500]
    works = follow(features, tables, 512)
    assert works[-1].changed > 0


def test_a_centroid_that_comes_in_steps_takes_rows_that_were_sure():
    """Each step is shorter than what then parts the rows' bounds; together they are longer."""
    rng = np.random.default_rng(5)
    features = clustered(rng, 2000, 64)
    features[1900:] = 40 + 0.1 * rng.standard_normal((100, 64))
    table = features[:300].astype(np.float32)
    table[6], table[7] = 40, features[1950]
    offset = np.float32(4.0) * np.eye(64, dtype=np.float32)[0]
    tables = []
    for steps in range(12, -1, -1):
        tables.append(table.copy())
        tables[-1][7] += steps * offset
    works = follow(features, tables, 512)
    assert works[2].by_bounds > 0


def test_a_tracker_of_constant_rows_works():
    features = np.full((300, 64), 0.5, np.float16)
    rng = np.random.default_rng(4)
    follow(features, small_moves(rng, rng.standard_normal((256, 64)).astype(np.float32), 3, 0.01), 100)
