"""A study as a table: corpora, encoders, tasks, a centre, and factors that are varied around it one at a time.

It is read from TOML. A *level* is settings that replace those of the centre; the level of a factor that changes nothing
is the centre itself. Four settings choose the tokens, all others are settings of the tasks:

    encoder         a name of [encoders]
    layers          layers that are fused, spoken or predicted
    num_clusters    K of each layer
    codebooks_of    corpora whose frames K-means learns from; "own" is the corpus of the task
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pipeline.errors import SettingsError
from pipeline.tasks.settings import TaskName

OWN = "own"
VOCODER = "vocoder"
TASKS = (*get_args(TaskName), VOCODER)
SPOKEN = ("se", "tts")
"""Tasks whose tokens may be spoken by the study's vocoder and heard by its recogniser."""
HEARD = ("wer", "cer")
"""Metrics of what is heard."""
OF_TOKENS = ("encoder", "layers", "num_clusters", "codebooks_of")
CENTRE = "centre"
"""What the cell is called in which no factor is changed."""

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where utterances come from.

    Attributes:
        name: As tasks name it.
        of: The corpus that it is joined or mixed from; None for recordings.
        clean: The corpus of its clean speech, where it is noisy.
        kind: ``recordings`` (build_manifest), ``joined`` (concatenate_corpus) or ``mixed`` (mix_corpus).
        settings: Of that job.
        expected: For an estimate, before the manifest is there: ``hours`` of audio, and ``utterance_seconds``.
    """

    name: str
    of: str | None
    clean: str | None
    kind: str
    settings: Values
    expected: Values = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What features come from.

    Attributes:
        name: As levels name it.
        like: The encoder whose shape it has, with random weights; None for one that is there.
        seed: Of these weights.
        settings: Of its passes, as in extract_features.
    """

    name: str
    like: str | None
    seed: int
    settings: Values


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on tokens.

    Attributes:
        name: One of ``TASKS``.
        corpus: What it learns from.
        metric: What levels are compared by.
        settings: Of train_task or train_vocoder.
        test: Corpus that it is tested on; None: the test side of its own.
        judging: Of evaluate, for the vocoder.
        expected: For an estimate: ``vocabulary`` (symbols or classes), and ``tested_hours`` of audio.
    """

    name: str
    corpus: str
    metric: str
    settings: Values
    test: str | None = None
    judging: Values = field(default_factory=dict)
    expected: Values = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What is varied.

    Attributes:
        name: Of the factor.
        levels: Settings of each level, in order.
        centre: The level that is the centre.
        tasks: On which it is tried.
    """

    name: str
    levels: Mapping[str, Values]
    centre: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is asked; see the module.

    Attributes:
        name: Of the study.
        seeds: Of trainings; each cell is trained with each.
        kmeans_frames: Frames that are kept of a corpus which K-means alone reads; of others it reads all.
        corpora: By name.
        encoders: By name.
        tasks: By name.
        centre: Settings of the centre.
        factors: By name.
    """

    name: str
    seeds: tuple[int, ...]
    kmeans_frames: int
    corpora: Mapping[str, Corpus]
    encoders: Mapping[str, Encoder]
    tasks: Mapping[str, Task]
    centre: Values
    factors: Mapping[str, Factor]


def root(corpora: Mapping[str, Corpus], name: str) -> str:
    """Name the recordings that a corpus is made of; for noisy ones, those of its clean speech.

    Raises:
        SettingsError: They are made of each other.
    """
    seen = [name]
    while (of := corpora[name].of or corpora[name].clean) is not None:
        if of in seen:
            raise SettingsError(f"corpora {', '.join(seen)} are made of each other")
        name = of
        seen.append(name)
    return name
