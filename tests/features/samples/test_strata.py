"""Thresholds of a sample against sorting every hash."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.features.samples import strata
from pipeline.features.samples.hashing import EVERY_HASH, frame_hash, stream_starts
from pipeline.features.samples.strata import Population, last_hashes, share_out


def population(counts, of_stratum, seed=3):
    names = [f"u{number}" for number in range(len(counts))]
    found = Population(
        starts=stream_starts(seed, names), counts=np.array(counts, np.int64), strata=np.array(of_stratum, np.int32)
    )
    hashes = [frame_hash(seed, name, np.arange(count)) for name, count in zip(names, counts, strict=True)]
    return found, hashes


def check(counts, of_stratum, num_strata, size):
    """Compare with sorting all hashes of each stratum."""
    found, hashes = population(counts, of_stratum)
    quotas = share_out(size, found.sizes(num_strata))
    for stratum, last in enumerate(last_hashes(found, quotas)):
        empty = [np.zeros(0, np.uint64)]
        every = np.sort(np.concatenate(empty + [h for h, s in zip(hashes, of_stratum, strict=True) if s == stratum]))
        if quotas[stratum] == 0:
            assert last is None
        elif quotas[stratum] == len(every):
            assert last == EVERY_HASH
        else:
            assert last == every[quotas[stratum] - 1]


@given(st.data(), st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 5))
def test_the_bound_is_the_hash_that_sorting_everything_gives(data, counts, num_strata):
    of_stratum = data.draw(st.lists(st.integers(0, num_strata - 1), min_size=len(counts), max_size=len(counts)))
    check(counts, of_stratum, num_strata, data.draw(st.integers(1, sum(counts) + 2)))


@pytest.mark.parametrize("size", [1, 7, 2_000, 150_000, 299_999])
def test_the_bound_is_exact_over_many_blocks_and_for_an_utterance_longer_than_one(size):
    check([3, 0, 200_000, 0, 70_000, 1, 29_996], [0, 0, 0, 0, 0, 0, 0], 1, size)
    check([3, 0, 200_000, 0, 70_000, 1, 29_996], [1, 0, 1, 2, 0, 2, 1], 3, size)


def test_a_window_that_misses_is_searched_again_wider(monkeypatch):
    monkeypatch.setattr(strata, "_DEVIATIONS", 1e-6)
    searched = []
    search = strata._search

    def counted(*given):
        searched.append(given)
        return search(*given)

    monkeypatch.setattr(strata, "_search", counted)
    check([5_000, 9_000, 400], [0, 1, 1], 2, 3_000)
    assert len(searched) > 3


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(0, 400))
def test_shares_are_equal_but_for_strata_that_have_less(available, size):
    given_before = list(available)
    shares = share_out(size, available)
    assert available == given_before
    assert shares.sum() == min(size, sum(available))
    assert (shares <= available).all()
    level = max(shares)
    for share, there in zip(shares.tolist(), available, strict=True):
        assert share in (there, level, level - 1)
        assert share >= min(there, level - 1)
    # Of those that could give one more, the first do.
    open_to_one = [int(share) for share, there in zip(shares, available, strict=True) if there >= level]
    assert open_to_one == sorted(open_to_one, reverse=True)


@pytest.mark.parametrize(
    ("size", "available", "shares"),
    [
        (30, [100, 100, 100], [10, 10, 10]),
        (30, [4, 100, 100], [4, 13, 13]),
        (31, [100, 4, 100], [14, 4, 13]),
        (2, [9, 9, 9], [1, 1, 0]),
        (500, [9, 0, 9], [9, 0, 9]),
        (5, [], []),
    ],
)
def test_small_strata_give_all_they_have_and_the_first_ones_the_remainder(size, available, shares):
    assert share_out(size, available).tolist() == shares


def test_memory_does_not_follow_the_number_of_frames():
    rng = np.random.default_rng(0)
    counts = rng.integers(1_000, 3_000, 10_000)
    found = Population(
        starts=rng.integers(0, 2**63, 10_000).astype(np.uint64), counts=counts, strata=np.zeros(10_000, np.int32)
    )
    tracemalloc.start()
    last_hashes(found, np.array([1_000_000]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All hashes would be 160 MB.
    assert peak < 8e6
