"""A study as a table: corpora, encoders, tasks, a centre, and factors that are varied around it one at a time.

It is read from TOML. A *level* is settings that replace those of the centre; the level of a factor that changes nothing
is the centre itself. Four settings choose the tokens, all others are settings of the tasks:

    encoder         a name of [encoders]
    layers          layers that are fused, spoken or predicted
    num_clusters    K of each layer
    codebooks_of    corpora whose frames K-means learns from; "own" is the corpus of the task
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pipeline.errors import SettingsError
from pipeline.presets import read_preset
from pipeline.study.metrics import METRICS, primary_of
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


def read_study(text: str, source: str) -> Study:
    """Read a study.

    Args:
        text: TOML.
        source: Where it is from, for errors.

    Raises:
        SettingsError: It is no TOML, or a table names what is not there; the message names the table.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"study {source} is not TOML: {error}") from error
    try:
        return _study(found)
    except SettingsError as error:
        raise SettingsError(f"study {source}: {error}") from error


def _study(found: dict[str, Any]) -> Study:
    given = _Table("the study", found)
    name, seeds = given.take("name", str), tuple(given.take("seeds", list))
    if not seeds or len(set(seeds)) < len(seeds) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise SettingsError(f"seeds must be different whole numbers from 0 on, got {list(seeds)}")
    frames = given.take("kmeans_frames", int, 1_000_000)
    if frames < 1:
        raise SettingsError(f"kmeans_frames must be at least 1, got {frames}")
    corpora = {name: _corpus(name, table) for name, table in given.tables("corpora")}
    encoders = {name: _encoder(name, table) for name, table in given.tables("encoders")}
    tasks = {name: _task(name, table) for name, table in given.tables("tasks")}
    centre = {key: _settled(value) for key, value in given.take("centre", dict).items()}
    if missing := [key for key in OF_TOKENS if key not in centre]:
        raise SettingsError(f"centre has no {', '.join(missing)}")
    factors = {name: _factor(name, table, centre, tuple(tasks)) for name, table in given.tables("factors")}
    given.empty()
    study = Study(
        name=name,
        seeds=seeds,
        kmeans_frames=frames,
        corpora=corpora,
        encoders=encoders,
        tasks=tasks,
        centre=centre,
        factors=factors,
    )
    _check_names(study)
    return study


class _Table:
    """A table of TOML that is taken apart; what is left over was misspelt."""

    def __init__(self, name: str, values: Values) -> None:
        self._name, self._left = name, dict(values)

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """Give a value and strike it out."""
        value = self._left.pop(key, default)
        if value is None:
            raise SettingsError(f"{self._name} has no {key}")
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise SettingsError(f"{self._name}: {key} must be a {_KINDS[kind]}, got {value!r}")
        return value

    def maybe(self, key: str) -> str | None:
        """Give a text where it is there, and strike it out."""
        return self.take(key, str) if key in self._left else None

    def tables(self, key: str) -> list[tuple[str, "_Table"]]:
        """Give the tables within one, by name."""
        found = self.take(key, dict)
        if bad := [name for name, table in found.items() if not isinstance(table, dict)]:
            raise SettingsError(f"{key}.{bad[0]} must be a table, as [{key}.{bad[0]}]")
        return [(name, _Table(f"{key}.{name}", table)) for name, table in found.items()]

    def rest(self) -> dict[str, Any]:
        """Give what is left, lists as tuples."""
        left, self._left = self._left, {}
        return {key: _settled(value) for key, value in left.items()}

    def empty(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise SettingsError(f"{self._name} has no setting {', '.join(sorted(self._left))}")


_KINDS = {str: "text", int: "whole number", list: "list", dict: "table"}


def _settled(value: Any) -> Any:
    return tuple(map(_settled, value)) if isinstance(value, list) else value


def _corpus(name: str, table: _Table) -> Corpus:
    joined, mixed, clean = table.maybe("concatenate"), table.maybe("mix"), table.maybe("clean")
    if joined is not None and mixed is not None:
        raise SettingsError(f"corpora.{name} is joined of one corpus or mixed of one, not both")
    if clean is not None and (joined or mixed):
        raise SettingsError(
            f"corpora.{name}: clean is of recordings; a mixture's clean speech is what it is mixed from"
        )
    kind = "joined" if joined is not None else "mixed" if mixed is not None else "recordings"
    expected = _expected(table, f"corpora.{name}", ("hours", "utterance_seconds"))
    of, clean = joined or mixed, mixed or clean
    return Corpus(name=name, of=of, clean=clean, kind=kind, expected=expected, settings=table.rest())


def _expected(table: _Table, where: str, known: Sequence[str]) -> Values:
    """Take what an estimate is told: no result depends on it, so it is in no key."""
    found: Values = table.take("expected", dict, {})
    for key, value in found.items():
        if key not in known or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise SettingsError(
                f"{where}: expected holds numbers above 0 called {' or '.join(known)}, got {key} = {value!r}"
            )
    return found


def _encoder(name: str, table: _Table) -> Encoder:
    like, seed = table.maybe("like"), table.take("seed", int, 0)
    settings = table.rest()
    if like is None:
        settings.setdefault("encoder", name)
    elif "encoder" in settings:
        raise SettingsError(f"encoders.{name} is an encoder or like one, not both")
    if not settings.get("layers"):
        raise SettingsError(f"encoders.{name} has no layers")
    return Encoder(name=name, like=like, seed=seed, settings=settings)


def _task(name: str, table: _Table) -> Task:
    if name not in TASKS:
        raise SettingsError(f"tasks.{name}: a task is one of {', '.join(TASKS)}")
    corpus, metric = table.take("corpus", str), table.maybe("metric") or primary_of(name)
    if metric not in METRICS:
        raise SettingsError(f"tasks.{name}: metric must be one of {', '.join(METRICS)}, got {metric!r}")
    preset, test = table.maybe("preset"), table.maybe("test")
    judging = dict(table.take("judging", dict, {}))
    expected = _expected(table, f"tasks.{name}", ("vocabulary", "tested_hours"))
    if judging and name != VOCODER:
        raise SettingsError(f"tasks.{name}: judging is of the vocoder")
    shipped = {} if preset is None else read_preset(preset)
    shipped.pop("task", None)
    return Task(
        name=name,
        corpus=corpus,
        metric=metric,
        settings={**{key: _settled(value) for key, value in shipped.items()}, **table.rest()},
        test=test,
        expected=expected,
        judging={key: _settled(value) for key, value in judging.items()},
    )


def _factor(name: str, table: _Table, centre: Values, all_tasks: Sequence[str]) -> Factor:
    levels = {
        level: {key: _settled(value) for key, value in values.items()}
        for level, values in table.take("levels", dict).items()
    }
    tasks = tuple(table.take("tasks", list, list(all_tasks)))
    table.empty()
    same = [level for level, values in levels.items() if all(centre.get(key) == values[key] for key in values)]
    if len(levels) < 2 or len(same) != 1:
        raise SettingsError(
            f"factors.{name} needs at least two levels, one of them the centre (its settings as in [centre], or none); "
            f"got {', '.join(levels)}, of which {', '.join(same) or 'none'} are the centre"
        )
    if unknown := sorted(set(tasks) - set(all_tasks)):
        raise SettingsError(f"factors.{name}: there is no task {', '.join(unknown)}")
    return Factor(name=name, levels=levels, centre=same[0], tasks=tasks)


def _check_names(study: Study) -> None:
    for corpus in study.corpora.values():
        sounds = [corpus.settings.get(key) for key in ("noises", "rooms")] if corpus.kind == "mixed" else []
        for other in filter(None, (corpus.of, corpus.clean, *sounds)):
            _known(f"corpora.{corpus.name}", "corpus", other, study.corpora)
            if other == corpus.name:
                raise SettingsError(f"corpora.{corpus.name} is made of itself")
    for encoder in study.encoders.values():
        if encoder.like is not None:
            _known(f"encoders.{encoder.name}", "encoder", encoder.like, study.encoders)
    for task in study.tasks.values():
        _known(f"tasks.{task.name}", "corpus", task.corpus, study.corpora)
        _check_heard(study, task)
        for name in (task.corpus, task.test) if task.name == "se" else ():
            if name is not None and study.corpora[name].clean is None:
                raise SettingsError(
                    f"tasks.se needs corpora that are mixed, or name their clean ones; {name} is neither"
                )
    for where, values in _all_values(study):
        if "encoder" in values:
            _known(where, "encoder", values["encoder"], study.encoders)
        for name in values.get("codebooks_of", ()):
            if name != OWN:
                _known(where, "corpus", name, study.corpora)


def _check_heard(study: Study, task: Task) -> None:
    where = f"tasks.{task.name}"
    if task.test is not None:
        _known(where, "corpus", task.test, study.corpora)
        if task.name not in SPOKEN:
            raise SettingsError(f"{where}: test is a setting of {', '.join(SPOKEN)}; others have a test side")
    if task.name in SPOKEN and task.metric in HEARD:
        if lacking := [name for name in ("asr", VOCODER) if name not in study.tasks]:
            raise SettingsError(f"{where}: {task.metric} is of what is heard, which needs tasks.{lacking[0]}")
        if task.test is None:
            raise SettingsError(f"{where}: {task.metric} is of what is heard: name a corpus to speak as test")


def _all_values(study: Study) -> list[tuple[str, Values]]:
    found = [(CENTRE, study.centre)]
    for factor in study.factors.values():
        found += [(f"factors.{factor.name}.levels.{level}", values) for level, values in factor.levels.items()]
    return found


def _known(where: str, what: str, name: Any, there: Mapping[str, Any]) -> None:
    if name not in there:
        raise SettingsError(f"{where}: there is no {what} {name!r}; there are {', '.join(there)}")
