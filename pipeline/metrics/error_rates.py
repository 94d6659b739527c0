"""Word and character error rates of a whole set: errors of all utterances over the length of all references.

An empty reference makes every word of its hypothesis an insertion; an empty hypothesis deletes every word of its
reference; two empty ones have no error. A set whose references are all empty is divided by 1, so its rate is the number
of insertions and stays finite. Spaces count as characters, single ones between words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import SettingsError

Unit = Literal["words", "characters"]


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """What an alignment with the fewest edits says of one utterance, or of many added up.

    Attributes:
        substitutions: Wrong words (or characters).
        deletions: Those of the reference that are absent.
        insertions: Those that no reference has.
        length: Words (or characters) of the reference.
    """

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        """Edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over the reference's length, over 1 where it is empty; may be above 1."""
        return self.errors / max(1, self.length)


def count_errors(references: Sequence[str], hypotheses: Sequence[str], *, unit: Unit) -> list[ErrorCounts]:
    """Count the errors of each utterance.

    Args:
        references: What was said (N), normalised by the caller.
        hypotheses: What was recognised (N), normalised in the same way.
        unit: What is compared.

    Raises:
        SettingsError: jiwer is not installed.
    """
    process = getattr(_jiwer(), f"process_{unit}")
    found = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        said = process(" ".join(reference.split()), " ".join(hypothesis.split()))
        edits = {name: getattr(said, name) for name in ("substitutions", "deletions", "insertions")}
        found.append(ErrorCounts(**edits, length=said.hits + said.substitutions + said.deletions))
    return found


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """Add up utterances; the rate of the sum is the rate of the set."""
    names = ("substitutions", "deletions", "insertions", "length")
    rows = list(counts)
    return ErrorCounts(**{name: sum(getattr(row, name) for row in rows) for name in names})


def _jiwer() -> Any:
    try:
        import jiwer
    except ImportError as error:
        raise SettingsError('error rates need jiwer; install it with: pip install "strata-tokens[evaluate]"') from error
    return jiwer
