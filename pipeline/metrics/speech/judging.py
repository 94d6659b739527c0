"""Judges run over utterances: a row per (utterance, condition), in the order in which they come.

Memory: one utterance, and what its judges compute of it. A judge that cannot judge an utterance leaves nulls and a
reason in the row; ``summary.py`` counts them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pipeline.errors import SettingsError, UnjudgedError
from pipeline.metrics.error_rates import ErrorCounts
from pipeline.metrics.speech.alignment import aligned, lag_samples
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Reason, Score
from pipeline.metrics.speech.levels import is_silent
from pipeline.metrics.speech.rows import ERRORS, LENGTH, Row, row_schema

MOST_LENGTH_DIFFERENCE = 1600
"""Samples by which a waveform may be longer or shorter than its reference, 0.1 s: what a last frame can make."""


def judge_pairs(pairs: Iterable[Pair], judges: Sequence[Judge], *, most_lag_samples: int = 0) -> Iterator[Row]:
    """Judge utterances one by one.

    A waveform that is longer or shorter than its reference by at most 0.1 s is compared over what both have; one
    further off has no figure of judges that compare, but of those that need no equal times.

    Args:
        pairs: Utterances; taken one at a time.
        judges: Who judge, in this order.
        most_lag_samples: Largest lag of ``generated`` behind its reference, or before it, that is found and taken out
            before judges compare; 0 compares sample by sample.

    Returns:
        Rows with the columns of ``row_schema``, made as they are taken.

    Raises:
        SettingsError: Two judges give the same column, the lag is negative, or (when its row is taken) a waveform is
            not float32 (S,) of finite numbers.
    """
    row_schema(judges)
    if most_lag_samples < 0:
        raise SettingsError(f"most_lag_samples must be at least 0, got {most_lag_samples}")
    return (_row(pair, judges, most_lag_samples) for pair in pairs)


def libraries(judges: Sequence[Judge]) -> dict[str, dict[str, str | None] | None]:
    """Say whose figures those of each judge are: library, version and hash of its network; None where all is ours."""
    return {judge.name: None if judge.library is None else asdict(judge.library) for judge in judges}


def _row(pair: Pair, judges: Sequence[Judge], most_lag: int) -> Row:
    _check(pair)
    row: Row = {
        "utterance_id": pair.utterance_id,
        "condition": pair.condition,
        "seconds": len(pair.generated) / SAMPLE_RATE,
        "lag_samples": None,
    }
    compared, refusal = pair, None
    try:
        compared, row["lag_samples"] = _compared(pair, most_lag)
    except UnjudgedError as error:
        refusal = error
    unjudged: list[dict[str, str]] = []
    for judge in judges:
        # What is of another length is compared as it is, by who needs no times.
        refused = None if pair.reference is not None and not judge.same_times else refusal
        score, detail = _score(judge, compared if judge.needs_reference else pair, refused)
        row |= {name: score.texts.get(name) for name in judge.texts}
        for measure in judge.measures:
            row |= _columns(measure, score.values)
        unjudged += [{"measure": name, "reason": why, "detail": detail} for name, why in score.absent.items()]
    return {**row, "unjudged": unjudged}


def _check(pair: Pair) -> None:
    for what, waveform in (("generated", pair.generated), ("reference", pair.reference)):
        if waveform is None:
            continue
        where = f"{pair.utterance_id} ({pair.condition})"
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            found = f"{waveform.dtype} {waveform.shape}"
            raise SettingsError(f"{where}: {what} must be float32 (S,) at 16 kHz, got {found}")
        if not np.isfinite(waveform).all():
            raise SettingsError(f"{where}: {what} has samples that are not finite; they cannot be judged")


def _compared(pair: Pair, most_lag: int) -> tuple[Pair, int | None]:
    """Give the pair as judges compare it, and the lag that was taken out; None where none was looked for.

    Raises:
        UnjudgedError: There is no reference, or it is much longer or shorter.
    """
    if pair.reference is None:
        raise UnjudgedError(Reason.NO_REFERENCE, "it has no reference")
    said, made = pair.reference, pair.generated
    if abs(len(said) - len(made)) > MOST_LENGTH_DIFFERENCE:
        detail = f"it has {len(made)} samples, its reference {len(said)}; they may differ by {MOST_LENGTH_DIFFERENCE}"
        raise UnjudgedError(Reason.LENGTHS_DIFFER, detail)
    lag = None
    if most_lag:
        lag = 0 if is_silent(said) or is_silent(made) else lag_samples(said, made, most=most_lag)
    said, made = aligned(said, made, lag or 0)
    return replace(pair, reference=said, generated=made), lag


def _score(judge: Judge, pair: Pair, refusal: UnjudgedError | None) -> tuple[Score, str]:
    """Judge, or give why not for each measure, and a sentence on it."""
    try:
        if judge.needs_reference and refusal is not None:
            raise refusal
        return judge.score(pair), ""
    except UnjudgedError as error:
        absent = {measure.name: Reason(error.reason) for measure in judge.measures}
        return Score(values={}, absent=absent), error.detail


def _columns(measure: Measure, values: Mapping[str, float | ErrorCounts]) -> Row:
    value: Any = values.get(measure.name)
    if not measure.counted:
        return {measure.name: value}
    found = (None, None, None) if value is None else (value.rate, value.errors, value.length)
    return dict(zip((measure.name, measure.name + ERRORS, measure.name + LENGTH), found, strict=True))
