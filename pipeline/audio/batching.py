"""Which utterances of a shard the encoder sees together, decided by their lengths alone.

Sorting by length keeps padding small: 251 utterances of LibriSpeech, 1.6 to 17.2 s, in batches of 60 s are padded
by 1.5 %, in file order by 17.8 %. Cost: O(N log N).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Utterances that are encoded together.

    Attributes:
        rows: Positions in the lengths that were given.
        num_samples: Length of the longest one, to which the others are padded.
    """

    rows: tuple[int, ...]
    num_samples: int


def plan_batches(lengths: Sequence[int], *, max_batch_samples: int, equal_lengths: bool) -> list[Batch]:
    """Divide utterances into batches.

    Args:
        lengths: Samples of each utterance, at least 1.
        max_batch_samples: Samples of one batch, padding included. A longer utterance is a batch of its own.
        equal_lengths: Whether a batch may hold one length only, as group-norm encoders need.

    Returns:
        Batches by ascending length; every row is in exactly one.

    Raises:
        ValueError: A length or the budget is below 1.
    """
    if max_batch_samples < 1:
        raise ValueError(f"max_batch_samples must be at least 1, got {max_batch_samples}")
    if min(lengths, default=1) < 1:
        raise ValueError(f"lengths must be at least 1, got {min(lengths)} at row {lengths.index(min(lengths))}")
    batches: list[Batch] = []
    rows: list[int] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        full = (len(rows) + 1) * lengths[row] > max_batch_samples
        if rows and (full or (equal_lengths and lengths[row] != longest)):
            batches.append(Batch(rows=tuple(rows), num_samples=longest))
            rows = []
        rows.append(row)
        longest = lengths[row]
    if rows:
        batches.append(Batch(rows=tuple(rows), num_samples=longest))
    return batches


def pad_waste(lengths: Sequence[int], batches: Sequence[Batch]) -> float:
    """Give the share of encoded samples that is padding.

    Args:
        lengths: Samples of each utterance.
        batches: A plan over them.

    Returns:
        From 0 (none) towards 1; 0 for an empty plan.
    """
    encoded = sum(len(batch.rows) * batch.num_samples for batch in batches)
    useful = sum(lengths[row] for batch in batches for row in batch.rows)
    return 1 - useful / encoded if encoded else 0.0
