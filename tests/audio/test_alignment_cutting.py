"""Intervals of a recording are shifted into its utterances and cut at their edges, rounding apart."""

import numpy as np
import pytest

from pipeline.audio.alignments.cutting import SLACK_SECONDS, cut
from pipeline.audio.alignments.timed import Interval
from pipeline.audio.alignments.utterances import Places

SECONDS = np.array([1.0, 2.0, 0.5])


def cut_by(intervals, starts, ranks=(0, 1, 2)):
    places = Places(ranks=np.array(ranks)[: len(starts)], starts=np.array(starts, float))
    found = cut([Interval(start, end, "w") for start, end in intervals], places, SECONDS)
    rows = zip(found.ranks, found.starts.round(9), found.ends.round(9), found.numbers, strict=True)
    return [tuple(map(float, row)) for row in rows], found.shortened, found.left_out


def test_an_interval_across_an_edge_is_part_of_both_utterances():
    assert cut_by([(0.5, 1.5)], [0, 1]) == ([(0, 0.5, 1, 0), (1, 0, 0.5, 0)], 2, 0)


def test_what_passes_an_edge_by_rounding_is_cut_and_neither_counted_nor_part_of_the_next():
    slack = SLACK_SECONDS / 2
    assert cut_by([(0.5, 1 + slack)], [0, 1]) == ([(0, 0.5, 1, 0)], 0, 0)
    assert cut_by([(1 - slack, 1.5)], [0, 1]) == ([(1, 0, 0.5, 0)], 0, 0)


def test_an_interval_that_lies_in_no_utterance_is_left_out():
    assert cut_by([(5, 6), (1.0, 1.005), (-2, -1)], [0]) == ([], 0, 3)


def test_an_interval_without_length_stays():
    assert cut_by([(0.25, 0.25), (1.0, 1.0), (1.5, 1.5)], [0]) == ([(0, 0.25, 0.25, 0), (0, 1, 1, 1)], 0, 1)


def test_a_long_interval_before_others_is_not_lost():
    rows, shortened, left_out = cut_by([(0, 10), (0.1, 0.2), (9.1, 9.2)], [9], ranks=[0])
    assert rows == [(0, 0, 1, 0), (0, 0.1, 0.2, 2)]
    assert (shortened, left_out) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    begins = rng.uniform(-1, 6, 30)
    intervals = list(zip(begins, begins + rng.exponential(0.5, 30), strict=True))
    starts = rng.uniform(-1, 5, 3)
    rows, _, left_out = cut_by(intervals, starts)
    expected, met = set(), set()
    for rank, begin in enumerate(starts):
        for number, (start, end) in enumerate(intervals):
            inside = np.clip([start - begin, end - begin], 0, SECONDS[rank])
            whole = start >= begin - SLACK_SECONDS and end <= begin + SECONDS[rank] + SLACK_SECONDS
            if inside[1] - inside[0] > (0 if whole else SLACK_SECONDS):
                expected.add((rank, *inside.round(9), number))
                met.add(number)
    assert set(rows) == expected
    assert left_out == len(intervals) - len(met)
