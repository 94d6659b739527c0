"""Groups of about one length: utterances that share a micro-batch, cut to the shortest or padded to the longest.

Cut, no network sees padding, and less than a sixth of an utterance is lost. Padded, nothing is lost: at most a sixth
of a micro-batch is padding, and its lengths say which.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_NARROW = 1.2
"""Utterances of one micro-batch are at most this many times as long as the shortest."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Utterances of one micro-batch.

    Attributes:
        rows: Positions in the lengths that were given.
        lengths: Frames of each in the micro-batch.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """Frames of the micro-batch (T)."""
        return max(self.lengths)


def group_by_length(
    lengths: Sequence[int],
    *,
    longest: int,
    size: Callable[[int], int],
    most: int,
    rng: np.random.Generator,
    pad: bool = False,
) -> list[Group]:
    """Divide utterances into micro-batches of about one length each, in random order.

    Args:
        lengths: Frames of each utterance.
        longest: Frames of one at most; longer utterances are cut to this.
        size: What a row of so many frames counts, as the samples of ``Clock.num_samples``.
        most: What the rows of one micro-batch, padding included, count at most; one row alone may pass it.
        rng: Order among utterances of equal length, and of the micro-batches.
        pad: Whether a group is as long as its longest, and rows keep their lengths; else all are cut to the shortest.

    Returns:
        Every utterance in one group.
    """
    cut = np.minimum(np.asarray(lengths, dtype=np.int64), longest)
    order = np.lexsort((rng.permutation(len(cut)), cut))
    groups: list[Group] = []
    start = 0
    while start < len(order):
        shortest = int(cut[order[start]])
        rows = order[start : start + max(1, most // size(shortest))]
        rows = rows[cut[rows] <= shortest * _NARROW]
        if pad:
            filled = (np.arange(1, len(rows) + 1)) * np.array([size(int(length)) for length in cut[rows]])
            rows = rows[: max(1, int(np.searchsorted(filled, most, side="right")))]
        kept = cut[rows].tolist() if pad else [shortest] * len(rows)
        groups.append(Group(rows=tuple(rows.tolist()), lengths=tuple(kept)))
        start += len(rows)
    return [groups[place] for place in rng.permutation(len(groups))]
