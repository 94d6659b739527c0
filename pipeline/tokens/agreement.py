"""How exact tokens are: the share that equals what batch-1, float32, full precision gives, with a confidence bound.

A run measures it on the way: in a few shards, a few utterances picked by hash are encoded a second time, each by
itself in float32, and their tokens are compared. Counts go into the shard's commit, so a resumed run keeps them.

Letters: n frames compared, m utterances they come from.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTE = "agreement"
CHECKED_SHARDS = 4
"""Shards in which utterances are checked, spread over the corpus."""
MAX_CHECKED_SECONDS = 60.0
"""Longer utterances are not checked: a minute of WavLM-large in float32 already takes 5 GB by itself."""
_Z = 1.96


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Share of tokens that equal the reference.

    Attributes:
        frames: n.
        utterances: m.
        equal: Share of the n tokens that are equal, 0 to 1.
        low: Lower end of its 95 % confidence interval.
    """

    frames: int
    utterances: int
    equal: float
    low: float


def checked_units(units: Sequence[str], num_frames: int) -> dict[str, int]:
    """Choose the shards to check and the frames wanted from each: a function of the plan alone.

    Args:
        units: All shards, in order.
        num_frames: Frames wanted in all, a layer.

    Returns:
        Frames wanted by shard; none for 0 frames.
    """
    if num_frames < 1 or not units:
        return {}
    count = min(CHECKED_SHARDS, len(units))
    chosen = [units[(2 * number + 1) * len(units) // (2 * count)] for number in range(count)]
    return dict.fromkeys(chosen, -(-num_frames // count))


def pick_utterances(lengths: Mapping[str, int], num_frames: int) -> list[str]:
    """Pick utterances by hash until they hold enough frames.

    Args:
        lengths: Frames of each candidate, by utterance id.
        num_frames: Frames wanted.

    Returns:
        Their ids, always the same for the same candidates.
    """
    picked: list[str] = []
    held = 0
    for utterance_id in sorted(lengths, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest()):
        if held >= num_frames:
            break
        picked.append(utterance_id)
        held += lengths[utterance_id]
    return picked


def agreement(counts: Sequence[tuple[int, int]]) -> Agreement:
    """Estimate the share of equal tokens of a layer from utterances.

    Frames of one utterance resemble each other, so they count as fewer: the interval is Wilson's for n / d frames,
    where d, the design effect, is the variance of the share between utterances over that of independent frames.

    Args:
        counts: Of each utterance, the frames compared and how many of them are equal.

    Raises:
        ValueError: There are no frames.

    Source:
        E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
        design effect of a ratio estimator: W. G. Cochran, "Sampling techniques", 3rd edition, section 9.
    """
    frames = sum(n for n, _ in counts)
    if not frames:
        raise ValueError("agreement needs at least one frame")
    share = sum(k for _, k in counts) / frames
    design = 1.0
    if 0 < share < 1 and len(counts) > 1:
        m = len(counts)
        between = m / (m - 1) * sum((k - share * n) ** 2 for n, k in counts) / frames**2
        design = max(1.0, between / (share * (1 - share) / frames))
    n = frames / design
    centre = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low = (centre - spread) / (1 + _Z**2 / n)
    return Agreement(frames=frames, utterances=len(counts), equal=share, low=max(0.0, min(share, low)))


def from_notes(notes: Sequence[Mapping[str, Any]]) -> dict[str, Agreement]:
    """Join what the commits of a dataset noted.

    Args:
        notes: Of each commit.

    Returns:
        By layer's column, as ``layer_07``; empty where nothing was checked.
    """
    counts: dict[str, list[tuple[int, int]]] = {}
    for note in notes:
        for column, found in note.get(NOTE, {}).items():
            counts.setdefault(column, []).extend((int(n), int(k)) for n, k in found)
    return {column: agreement(found) for column, found in sorted(counts.items()) if sum(n for n, _ in found)}
