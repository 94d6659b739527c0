"""Which digits a recogniser heard, wherever it put spaces.

A recogniser that learns from takes joined by digital silence learns that such silence divides words. Speech of a
vocoder has no digital silence, so what is heard right may come out in one piece: "ZEROONE". Its word error rate then
tells of spaces. Here a hypothesis is read as the digits whose names it is nearest to.
"""

import functools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.metrics.error_rates import count_errors
from pipeline.metrics.uncertainty import bootstrap_interval, rate

NAMES = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_MOST_OFF = 2
"""Letters that a digit may be longer or shorter than its name."""


@functools.cache
def _distance(heard: str, name: str) -> int:
    """Give the letters to change, leave out or put in."""
    (counts,) = count_errors([name], [heard], unit="characters")
    return counts.errors


def digits_of(hypothesis: str) -> list[str]:
    """Read letters as digits: those whose names, in a row, have the fewest letters changed, left out or put in.

    Args:
        hypothesis: What was heard, in capitals; spaces say nothing.
    """
    letters = hypothesis.replace(" ", "")
    # Of the first n letters: letters that are wrong, how many digits, and which; of two alike that of fewer digits.
    best: list[tuple[int, int, tuple[str, ...]]] = [(0, 0, ())]
    for end in range(1, len(letters) + 1):
        wrong, count, before = best[end - 1]
        found = [(wrong + 1, count, before)]
        for name in NAMES:
            for length in range(max(1, len(name) - _MOST_OFF), min(end, len(name) + _MOST_OFF) + 1):
                wrong, count, before = best[end - length]
                added = _distance(letters[end - length : end], name)
                found.append((wrong + added, count + 1, (*before, name)))
        best.append(min(found))
    return list(best[-1][2])


def error_rates(evaluation: Path) -> tuple[str, str]:
    """Give the word error rate and that of digits of an evaluation of a recogniser, with 95 % over utterances."""
    rows = pq.read_table(evaluation / "utterances.parquet", columns=["reference", "hypothesis"]).to_pylist()
    references = [row["reference"] for row in rows]
    heard = [row["hypothesis"] for row in rows]
    told = []
    for hypotheses in (heard, [" ".join(digits_of(each)) for each in heard]):
        counts = count_errors(references, hypotheses, unit="words")
        errors, lengths = (np.array([getattr(each, name) for each in counts]) for name in ("errors", "length"))
        found = bootstrap_interval(rate(errors, lengths), len(rows), draws=1000)
        told.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
    return told[0], told[1]
