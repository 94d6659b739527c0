"""Draws which utterances are joined, and lays each out as a row of a manifest.

Pure functions of rows, settings and seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.audio.manifest import encode_id
from pipeline.audio.pieces import decoded_length
from pipeline.schema import LABELS, PART, PIECES

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Joining:
    """How utterances are joined.

    Attributes:
        least: Fewest pieces of a joined utterance.
        most: Most pieces.
        silence_seconds: Shortest and longest silence between two pieces.
    """

    least: int
    most: int
    silence_seconds: tuple[float, float]

    def parted(self, count: int, draw: np.random.Generator) -> list[int]:
        """Part a count into sizes of ``least`` to ``most``, drawn so that as few as can be are left over."""
        sizes = []
        count -= next(left for left in range(count + 1) if self._fits(count - left))
        while count:
            fitting = [size for size in range(self.least, self.most + 1) if size <= count and self._fits(count - size)]
            sizes.append(int(fitting[draw.integers(len(fitting))]))
            count -= sizes[-1]
        return sizes

    def _fits(self, count: int) -> bool:
        """Say whether a count is a sum of sizes."""
        return -(-count // self.most) * self.least <= count

    def groups(self, count: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Part the numbers below ``count`` into groups in a drawn order; a few may be in none."""
        order = draw.permutation(count)
        begin = 0
        for size in self.parted(count, draw):
            yield order[begin : begin + size]
            begin += size

    def silences(self, rates: Sequence[int], draw: np.random.Generator) -> list[int]:
        """Draw the silence before each piece in samples at its own rate; none before the first."""
        seconds = draw.uniform(*self.silence_seconds, len(rates) - 1)
        return [0, *(round(length * rate) for length, rate in zip(seconds, rates[1:], strict=True))]


def joined_row(rows: Sequence[Row], silences: Sequence[int], number: int) -> dict[str, Any]:
    """Lay a joined utterance out as a row of ``schema.JOINED_MANIFEST``.

    Args:
        rows: The rows of its pieces, in order.
        silences: Samples of silence before each, at its rate.
        number: The pass, from 0. It is in the ids of later ones, which may join the same pieces again.
    """
    rate = max(row["sample_rate"] for row in rows)
    spelt = "/".join(row["utterance_id"] for row in rows)
    utterance_id = encode_id(f"{spelt}@{number}" if number else spelt)
    fields = [field.name for field in PIECES.type.value_type if field.name != "silence_samples"]
    return {
        **dict.fromkeys((*LABELS, *PART)),
        **_labels(rows),
        "utterance_id": utterance_id,
        "uri": rows[0]["uri"],
        "member": utterance_id,
        "offset_samples": 0,
        "num_samples": sum(
            decoded_length(silence, row["sample_rate"], rate)
            + decoded_length(row["num_samples"], row["sample_rate"], rate)
            for row, silence in zip(rows, silences, strict=True)
        ),
        "sample_rate": rate,
        "channel": None,
        "shard": 0,
        PIECES.name: [
            {"silence_samples": silence, **{name: row[name] for name in fields}}
            for row, silence in zip(rows, silences, strict=True)
        ],
    }


def _labels(rows: Sequence[Row]) -> dict[str, Any]:
    """Give the labels of joined pieces: texts side by side, of others what all pieces have."""
    found = {}
    for name in ("speaker", "emotion", "language", "split"):
        values = {row[name] for row in rows}
        found[name] = values.pop() if len(values) == 1 else None
    texts = [row["text"] for row in rows]
    # A transcript of some of the words would be wrong.
    found["text"] = None if None in texts else " ".join(texts)
    return found
