"""How exact tokens are: the share that equals what batch-1, float32, full precision gives, with a confidence bound.

A run measures it on the way: in a few shards, a few utterances picked by hash are encoded a second time, each by
itself in float32, and their tokens are compared. Which ones follows from the manifest and the settings, so that they
fit into a share of the run's encoding time. Counts go into the shard's commit, so a resumed run keeps them.

Letters: n frames compared, m utterances they come from.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTE = "agreement"
CHECKED_SHARDS = 8
"""Shards in which utterances are checked, at most, spread over the corpus."""
MAX_CHECKED_SECONDS = 60.0
"""Longer utterances are not checked: a minute of WavLM-large in float32 already takes 5 GB by itself."""
_COST = {"float32": 1.0, "bfloat16": 3.0}
"""What a second of audio alone in float32 costs, in seconds of audio in the run's batches. On CPUs with bfloat16
products float32 takes 1.7 to 1.9 times as long; the rest is for a second copy of the encoder."""
_COST_OF_ONE = 0.5
"""Seconds of audio that cost as much as what an utterance takes whatever its length: HuBERT-base encodes spoken digits
of 0.45 s 2.3 to 2.9 times as fast as they are long one at a time, and 4.8 times in batches of 8 s."""
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


def checked_units(units: Sequence[str]) -> list[str]:
    """Choose the shards to check: a function of the plan alone.

    Args:
        units: All shards, in order.
    """
    count = min(CHECKED_SHARDS, len(units))
    return [units[(2 * number + 1) * len(units) // (2 * count)] for number in range(count)]


def pick_utterances(
    candidates: Mapping[str, float], *, wanted_seconds: float, budget_seconds: float, dtype: str
) -> frozenset[str]:
    """Pick utterances by hash until they are long enough, passing over those that the budget does not hold.

    Args:
        candidates: Seconds of each, by utterance id.
        wanted_seconds: Audio wanted.
        budget_seconds: Audio that the run could encode in the time that may be taken.
        dtype: Number format of the run.

    Returns:
        Their ids, always the same for the same candidates; none where the budget holds none.
    """
    picked = []
    held = spent = 0.0
    for utterance_id in sorted(candidates, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest()):
        if held >= wanted_seconds:
            break
        seconds = candidates[utterance_id]
        cost = _COST[dtype] * (seconds + _COST_OF_ONE)
        if seconds <= MAX_CHECKED_SECONDS and spent + cost <= budget_seconds:
            picked.append(utterance_id)
            held += seconds
            spent += cost
    return frozenset(picked)


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
