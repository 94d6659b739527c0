"""Metrics by which levels of a study are compared: which way is better, and what each utterance gives to them.

A figure over utterances is a mean over groups of a ratio of sums. An error rate has one group; the unweighted average
recall has one per class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.metrics.speech.rows import ERRORS, LENGTH


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of utterances.

    Attributes:
        name: As evaluations call it.
        label: As a report shows it.
        lower_is_better: Which way.
    """

    name: str
    label: str
    lower_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an utterance gives to a figure.

    Attributes:
        numerator: What is summed above.
        denominator: What is summed below.
        group: Within which sums are taken.
    """

    numerator: float
    denominator: float
    group: str = ""


METRICS = {
    each.name: each
    for each in (
        Metric(name="wer", label="word error rate", lower_is_better=True),
        Metric(name="cer", label="character error rate", lower_is_better=True),
        Metric(name="error", label="error rate", lower_is_better=True),
        Metric(name="accuracy", label="accuracy", lower_is_better=False),
        Metric(name="uar", label="unweighted average recall", lower_is_better=False),
        Metric(name="token_error_rate", label="token error rate", lower_is_better=True),
        Metric(name="dwer", label="differential word error rate", lower_is_better=True),
        Metric(name="stft_distance", label="multi-resolution STFT distance", lower_is_better=True),
        Metric(name="log_mel_distance", label="log-mel distance", lower_is_better=True),
        Metric(name="mcd", label="mel cepstral distortion", lower_is_better=True),
        Metric(name="f0_correlation", label="correlation of pitch", lower_is_better=False),
        Metric(name="stoi", label="STOI", lower_is_better=False),
        Metric(name="dnsmos_ovrl", label="DNSMOS overall", lower_is_better=False),
        Metric(name="speaker_similarity", label="speaker similarity", lower_is_better=False),
    )
}

JUDGE_OF = {
    "log_mel_distance": "log_mel",
    "stft_distance": "stft",
    "mcd": "mcd",
    "f0_correlation": "pitch",
    "stoi": "stoi",
    "dnsmos_ovrl": "dnsmos",
    "speaker_similarity": "speaker",
    **dict.fromkeys(("wer", "cer", "dwer"), "recogniser"),
}
"""Who gives a metric of speech."""
OF_TASK = {
    "asr": ("wer", "cer"),
    "sid": ("accuracy", "error", "uar"),
    "er": ("uar", "accuracy", "error"),
    "se": ("token_error_rate", "wer", "cer"),
    "tts": ("token_error_rate", "wer", "cer"),
    "vocoder": tuple(JUDGE_OF),
}
"""Metrics by which a task can be judged; the first is meant where a study names none."""
_KINDS = ("substitutions", "deletions", "insertions")


def part(metric: str, row: Mapping[str, Any]) -> Part | None:
    """Say what an utterance gives to a metric; None where a judge had nothing to say of it.

    Args:
        metric: A name of ``METRICS``.
        row: Of the evaluation's ``utterances.parquet``.

    Raises:
        SettingsError: Rows of this task do not have it.
    """
    try:
        return _part(metric, row)
    except KeyError as error:
        raise SettingsError(f"an evaluation of this task has no {metric}: its rows lack {error}") from error


def _part(metric: str, row: Mapping[str, Any]) -> Part | None:
    if f"{metric}{ERRORS}" in row:
        errors, length = row[f"{metric}{ERRORS}"], row[f"{metric}{LENGTH}"]
        return None if errors is None else Part(numerator=errors, denominator=length)
    if metric in ("wer", "cer"):
        unit = "words" if metric == "wer" else "characters"
        return Part(numerator=sum(row[f"{unit}_{kind}"] for kind in _KINDS), denominator=row[f"{unit}_length"])
    if metric in ("accuracy", "error", "uar"):
        right = row["reference"] == row["hypothesis"]
        group = str(row["reference"]) if metric == "uar" else ""
        return Part(numerator=float(right != (metric == "error")), denominator=1.0, group=group)
    if metric == "token_error_rate":
        wrong = [value for name, value in row.items() if name.startswith("wrong_")]
        if not wrong:
            raise KeyError("wrong_")
        tokens = row["tokens_per_layer"] if "tokens_per_layer" in row else row["num_tokens"]
        return Part(numerator=float(sum(wrong)), denominator=float(tokens * len(wrong)))
    return None if row[metric] is None else Part(numerator=row[metric], denominator=1.0)


def of_tokens(metric: str) -> bool:
    """Say whether a metric counts tokens, so that figures of other tokens cannot be compared with it."""
    return metric == "token_error_rate"
