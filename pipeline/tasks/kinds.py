"""The tasks that there are, by name. Imports no torch before one is made."""

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN, VALIDATION
from pipeline.batches.survey import Parts
from pipeline.errors import SettingsError
from pipeline.store.dataset import Dataset
from pipeline.tasks.division import Division
from pipeline.tasks.settings import TrainTaskConfig

if TYPE_CHECKING:
    from pipeline.tasks.task import Task

logger = logging.getLogger(__name__)

TEXT, SPEAKER, EMOTION, CLEAN_URI = "text", "speaker", "emotion", "clean_uri"


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A task that can be trained.

    Attributes:
        label: Column of the manifest that it predicts.
        unheard: Whether it is judged by speakers that training never heard.
        parts: What is counted of labels before it is made; None: the values of its label.
        also: Further label columns that it needs, by the settings.
        crop_seconds: Crop of each utterance in training, seconds, where nothing else is asked for; None: all of it.
        make: Makes it for a corpus, from the settings and the labels that are there.
        again: Makes it again from what ``Task.to_json`` gave.
    """

    label: str
    unheard: bool
    parts: Callable[[TrainTaskConfig], tuple[Parts, ...]] | None
    crop_seconds: float | None
    make: "Callable[[TrainTaskConfig, Manifest, Division], Task]"
    again: "Callable[[Mapping[str, Any]], Task]"
    also: Callable[[TrainTaskConfig], tuple[str, ...]] = lambda _: ()


def label_classes(kind: TaskKind) -> tuple[str, ...]:
    """Name the label columns whose values are classes: that of the task, unless it is text or names a recording."""
    return (kind.label,) if kind.label in (SPEAKER, EMOTION) else ()


def _asr(config: TrainTaskConfig, manifest: Manifest, division: Division) -> "Task":
    from pipeline.tasks.asr.task import AsrTask
    from pipeline.tasks.asr.text import CHARACTERS, WORDS, build_alphabet, check_characters

    if importlib.util.find_spec("jiwer") is None:
        raise SettingsError('asr counts word errors with jiwer; install it with: pip install "strata-tokens[train]"')
    train, validation = division.facts[TRAIN], division.facts.get(VALIDATION)
    characters = train.counts_of(CHARACTERS)
    words = train.counts_of(WORDS) if config.text.units == "bpe" else {}
    alphabet = build_alphabet(config.text, characters, words)
    # What is only tested may hold other characters: they count as errors.
    heard = {} if validation is None else validation.counts_of(CHARACTERS)
    check_characters(alphabet, Counter(characters) + Counter(heard))
    return AsrTask(settings=config.asr, alphabet=alphabet)


def _transcripts(config: TrainTaskConfig) -> tuple[Parts, ...]:
    from pipeline.tasks.asr.text import transcript_parts

    return transcript_parts(config.text)


def _asr_again(given: Mapping[str, Any]) -> "Task":
    from pipeline.tasks.asr.task import AsrTask

    return AsrTask.from_json(given)


def _classes(manifest: Manifest, division: Division, label: str) -> tuple[str, ...]:
    """Give the classes of training, and refuse a side that has others."""
    there = division.facts[TRAIN].values[label].values
    if len(there) < 2:
        raise SettingsError(
            f"{manifest.dataset.uri} has one {label} in training ({there[0]}); there is nothing to tell apart"
        )
    for side in (VALIDATION, *division.tests):
        facts = division.facts.get(side)
        if facts is not None and (new := sorted(set(facts.values[label].values) - set(there))):
            told = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            counts = dict(zip(facts.values[label].values, facts.values[label].counts, strict=True))
            raise SettingsError(
                f"{manifest.dataset.uri}: {side} has {label} {told}, which training never has "
                f"(utterances: {sum(counts[name] for name in new)}); leave them out, or say by the split column what "
                "is trained on"
            )
    _tell_single(manifest, division, label)
    return there


def _tell_single(manifest: Manifest, division: Division, label: str) -> None:
    """Say which classes have one utterance: it is learned, and no side judges it."""
    counts: Counter[str] = Counter()
    for facts in division.facts.values():
        counts.update(dict(zip(facts.values[label].values, facts.values[label].counts, strict=True)))
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        told = ", ".join(single[:5]) + (f" and {len(single) - 5} more" if len(single) > 5 else "")
        logger.warning(
            "%s has a single utterance of %s %s, which training has: no side judges it",
            manifest.dataset.uri,
            label,
            told,
        )


def _sid(config: TrainTaskConfig, manifest: Manifest, division: Division) -> "Task":
    from pipeline.tasks.sid.task import SidTask

    return SidTask(ecapa=config.ecapa, settings=config.sid, classes=_classes(manifest, division, SPEAKER))


def _sid_again(given: Mapping[str, Any]) -> "Task":
    from pipeline.tasks.sid.task import SidTask

    return SidTask.from_json(given)


def _er(config: TrainTaskConfig, manifest: Manifest, division: Division) -> "Task":
    from pipeline.tasks.er.criterion import inverse_frequency
    from pipeline.tasks.er.task import ErTask

    classes = _classes(manifest, division, EMOTION)
    counts = division.facts[TRAIN].values[EMOTION].counts
    weights = inverse_frequency(counts) if config.er.class_weights == "inverse" else None
    return ErTask(ecapa=config.ecapa, classes=classes, weights=weights)


def _er_again(given: Mapping[str, Any]) -> "Task":
    from pipeline.tasks.er.task import ErTask

    return ErTask.from_json(given)


def _se(config: TrainTaskConfig, manifest: Manifest, division: Division) -> "Task":
    from pipeline.tasks.se.targets import open_clean
    from pipeline.tasks.se.task import SeTask

    clean = open_clean(config.data)
    columns = clean.noisy_columns if config.data.tokens is not None else ()
    return SeTask(settings=config.conformer, targets=clean.targets, columns=columns)


def _se_again(given: Mapping[str, Any]) -> "Task":
    from pipeline.tasks.se.task import SeTask

    return SeTask.from_json(given)


def _tts(config: TrainTaskConfig, manifest: Manifest, division: Division) -> "Task":
    from pipeline.tasks.tts.making import make_tts

    assert config.data.tokens is not None
    tokens = Dataset.open(config.data.tokens, kind="tokens")
    return make_tts(config.text, config.tts, tokens, config.data.layers, manifest, division)


def _tts_parts(config: TrainTaskConfig) -> tuple[Parts, ...]:
    from pipeline.tasks.tts.making import spoken_parts

    return spoken_parts(config.text, config.tts)


def _tts_again(given: Mapping[str, Any]) -> "Task":
    from pipeline.tasks.tts.task import TtsTask

    return TtsTask.from_json(given)


def _tts_speakers(config: TrainTaskConfig) -> tuple[str, ...]:
    return (SPEAKER,) if config.tts.speaker_input == "table" else ()


KINDS: Mapping[str, TaskKind] = {
    "asr": TaskKind(label=TEXT, unheard=False, parts=_transcripts, crop_seconds=None, make=_asr, again=_asr_again),
    "sid": TaskKind(label=SPEAKER, unheard=False, parts=None, crop_seconds=3.0, make=_sid, again=_sid_again),
    "er": TaskKind(label=EMOTION, unheard=True, parts=None, crop_seconds=None, make=_er, again=_er_again),
    "se": TaskKind(label=CLEAN_URI, unheard=False, parts=lambda _: (), crop_seconds=None, make=_se, again=_se_again),
    "tts": TaskKind(
        label=TEXT, unheard=False, parts=_tts_parts, crop_seconds=None, make=_tts, again=_tts_again, also=_tts_speakers
    ),
}
"""Tasks by name."""
