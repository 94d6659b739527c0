import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kmeans.fit.row_store import RowStore


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(-3, 130),
    st.integers(1, 50),
    st.integers(0, 10**6),
    st.integers(0, 9),
)
def test_rows_come_back_whatever_lies_in_memory(counts, max_resident, size, seed, announced):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((sum(counts), 3)).astype(np.float16)
    store = RowStore(3, num_rows=len(rows) + announced, max_resident=max_resident)
    for part in np.split(rows, np.cumsum(counts)[:-1]):
        store.append(part)
    assert store.num_rows == len(rows)
    assert store.num_resident == min(len(rows), max(0, max_resident))
    blocks = list(store.blocks(size))
    assert [begin for begin, _ in blocks] == [sum(len(block) for _, block in blocks[:n]) for n in range(len(blocks))]
    assert all(len(block) <= size for _, block in blocks)
    np.testing.assert_array_equal(np.concatenate([rows[:0], *(block for _, block in blocks)]), rows)
    np.testing.assert_array_equal(np.concatenate(store.arrays()), rows)
    chosen = rng.permutation(len(rows))[:20]
    np.testing.assert_array_equal(store.take(chosen), rows[chosen])


def test_rows_can_be_read_between_two_appends():
    rows = np.arange(12, dtype=np.float16).reshape(6, 2)
    store = RowStore(2, num_rows=6, max_resident=1)
    store.append(rows[:3])
    assert store.take(np.array([1]))[0].tolist() == [2, 3]
    store.append(rows[3:])
    np.testing.assert_array_equal(np.concatenate([block for _, block in store.blocks(4)]), rows)


@pytest.mark.parametrize(
    "rows", [np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float16), np.zeros((6, 3), np.float16)]
)
def test_other_rows_are_refused(rows):
    with pytest.raises(ValueError, match="rows must be float16"):
        RowStore(3, num_rows=5, max_resident=2).append(rows)
