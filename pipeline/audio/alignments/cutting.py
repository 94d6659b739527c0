"""Intervals of a recording become those of its utterances: shifted, and cut where an utterance begins and ends.

Shapes: n intervals, m rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.alignments.timed import Interval
from pipeline.audio.alignments.utterances import Places

SLACK_SECONDS = 0.01
"""What times may pass the edge of an utterance by, because tools round them: less is cut off and not counted, and of an
interval that lies outside but for less nothing is kept."""

# What is left of differences of seconds, behind which their binary tails stand.
_DIGITS = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """Rows of utterances.

    Attributes:
        ranks: int64 (m,), of the utterances.
        starts: float64 (m,), seconds from the beginning of the utterance.
        ends: float64 (m,), seconds.
        numbers: int64 (m,), which of the intervals each is of.
        shortened: How many rows lost more than the slack at an edge.
        left_out: How many intervals lie in no utterance.
    """

    ranks: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray
    shortened: int
    left_out: int


def cut(intervals: Sequence[Interval], places: Places, seconds: np.ndarray) -> Cut:
    """Cut intervals by the utterances they may lie in.

    Args:
        intervals: n of them, at least one.
        places: The utterances.
        seconds: Lengths of all utterances, by rank.
    """
    starts, ends = (np.array([each[side] for each in intervals]) for side in (0, 1))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    reach = np.maximum.accumulate(ends)
    met, shortened = np.zeros(len(intervals), bool), 0
    rows: list[tuple[np.ndarray, ...]] = []
    # A recording of hours has thousands of utterances, and these intervals may be those of one.
    lengths = seconds[places.ranks]
    near = (places.starts <= reach[-1] + SLACK_SECONDS) & (places.starts + lengths >= starts[0] - SLACK_SECONDS)
    for rank, begin in zip(places.ranks[near].tolist(), places.starts[near].tolist(), strict=True):
        length = float(seconds[rank])
        first = int(np.searchsorted(reach, begin - SLACK_SECONDS))
        until = int(np.searchsorted(starts, begin + length + SLACK_SECONDS, side="right"))
        here, there = starts[first:until] - begin, ends[first:until] - begin
        inside = np.clip(here, 0, length), np.clip(there, 0, length)
        whole = (here >= -SLACK_SECONDS) & (there <= length + SLACK_SECONDS)
        kept = (inside[1] - inside[0] > np.where(whole, 0, SLACK_SECONDS)) | (whole & (here == there))
        met[first:until] |= kept
        shortened += int((kept & ~whole).sum())
        numbers = order[first:until][kept]
        rows.append((np.full(len(numbers), rank), inside[0][kept], inside[1][kept], numbers))
    columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)] if rows else [np.zeros(0, np.int64)] * 4
    return Cut(
        ranks=columns[0],
        starts=columns[1].round(_DIGITS),
        ends=columns[2].round(_DIGITS),
        numbers=columns[3],
        shortened=shortened,
        left_out=int((~met).sum()),
    )
