"""Rows and rates of recognised utterances: WER and CER of the whole set."""

from collections.abc import Mapping, Sequence

from pipeline.metrics.error_rates import ErrorCounts, count_errors, total
from pipeline.tasks.asr.text import Alphabet
from pipeline.training.recipe import Row


def rows(hypotheses: Sequence[str], references: Sequence[str], alphabet: Alphabet) -> list[Row]:
    """Compare hypotheses with what was said, both normalised as the alphabet's transcripts are.

    Characters outside the alphabet stay in the reference, so what cannot be recognised counts as an error.

    Returns:
        For each utterance ``hypothesis``, ``reference``, and for words and characters ``*_substitutions``,
        ``*_deletions``, ``*_insertions`` and ``*_length``.
    """
    hypotheses = [alphabet.normalize(text) for text in hypotheses]
    references = [alphabet.normalize(text) for text in references]
    words = count_errors(references, hypotheses, unit="words")
    characters = count_errors(references, hypotheses, unit="characters")
    return [
        {"hypothesis": hypothesis, "reference": reference, **_told("words", by_word), **_told("characters", by_letter)}
        for hypothesis, reference, by_word, by_letter in zip(hypotheses, references, words, characters, strict=True)
    ]


def measure(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give ``wer`` and ``cer`` of rows, of the set as a whole: errors of all over the length of all."""
    return {"wer": total(_counts("words", rows)).rate, "cer": total(_counts("characters", rows)).rate}


def _told(unit: str, counts: ErrorCounts) -> Row:
    return {f"{unit}_{name}": getattr(counts, name) for name in ErrorCounts.__dataclass_fields__}


def _counts(unit: str, rows: Sequence[Row]) -> list[ErrorCounts]:
    names = list(ErrorCounts.__dataclass_fields__)
    return [ErrorCounts(**{name: int(row[f"{unit}_{name}"]) for name in names}) for row in rows]
