"""Reads a study from TOML; what is wrong is one sentence that names the table."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import SettingsError
from pipeline.preset_files import read_preset
from pipeline.study.metrics import JUDGE_OF, OF_TASK
from pipeline.study.table import (
    CENTRE,
    HEARD,
    OF_TOKENS,
    OWN,
    SPOKEN,
    TASKS,
    VOCODER,
    Corpus,
    Encoder,
    Factor,
    Study,
    Task,
    Values,
    root,
)


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
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise SettingsError(f"seeds must be different whole numbers from 0 on, got {list(seeds)}")
    frames = given.take("kmeans_frames", int, 1_000_000)
    if frames < 1:
        raise SettingsError(f"kmeans_frames must be at least 1, got {frames}")
    corpora = {name: _corpus(name, table) for name, table in given.tables("corpora")}
    encoders = {name: _encoder(name, table) for name, table in given.tables("encoders")}
    tasks = {name: _task(name, table) for name, table in given.tables("tasks")}
    centre = _Table(CENTRE, given.take("centre", dict)).rest()
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

    def tables(self, key: str, above: str = "") -> list[tuple[str, "_Table"]]:
        """Give the tables within one, by name."""
        found = self.take(key, dict)
        if bad := [name for name, table in found.items() if not isinstance(table, dict)]:
            raise SettingsError(f"{above}{key}.{bad[0]} must be a table, as [{above}{key}.{bad[0]}]")
        if bad := [name for name in found if not name.strip() or not name.isprintable()]:
            raise SettingsError(f"{above}{key} has a table called {bad[0]!r}; give it a name that can be read")
        return [(name, _Table(f"{above}{key}.{name}", table)) for name, table in found.items()]

    def rest(self) -> dict[str, Any]:
        """Give what is left, lists as tuples."""
        left, self._left = self._left, {}
        try:
            return {key: _settled(value) for key, value in left.items()}
        except SettingsError as error:
            raise SettingsError(f"{self._name}: {error}") from error

    def empty(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise SettingsError(f"{self._name} has no setting {', '.join(sorted(self._left))}")


_KINDS = {str: "text", int: "whole number", list: "list", dict: "table"}


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        raise SettingsError(
            f"a setting must be a text, a number, a truth value or a list of these, got a table: {value}"
        )
    if isinstance(value, list):
        return tuple(map(_settled, value))
    if not isinstance(value, str | int | float | bool):
        raise SettingsError(f"a setting must be a text, a number, a truth value or a list of these, got {value}")
    return value


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
    _check_values(f"encoders.{name}", {"layers": settings["layers"]})
    return Encoder(name=name, like=like, seed=seed, settings=settings)


def _task(name: str, table: _Table) -> Task:
    if name not in TASKS:
        raise SettingsError(f"tasks.{name}: a task is one of {', '.join(TASKS)}")
    corpus, metric = table.take("corpus", str), table.maybe("metric") or OF_TASK[name][0]
    if metric not in OF_TASK[name]:
        raise SettingsError(f"tasks.{name}: metric must be one of {', '.join(OF_TASK[name])}, got {metric!r}")
    preset, test = table.maybe("preset"), table.maybe("test")
    shipped = {} if preset is None else read_preset(preset)
    if preset is not None and shipped.pop("task", VOCODER) != name:
        raise SettingsError(f"tasks.{name}: preset {preset} is of another task")
    judging = dict(table.take("judging", dict, {}))
    if name == VOCODER:
        _check_judges(name, metric, judging)
    expected = _expected(table, f"tasks.{name}", ("vocabulary", "tested_hours"))
    if judging and name != VOCODER:
        raise SettingsError(f"tasks.{name}: judging is of the vocoder")
    return Task(
        name=name,
        corpus=corpus,
        metric=metric,
        settings={**{key: _settled(value) for key, value in shipped.items()}, **table.rest()},
        test=test,
        expected=expected,
        judging=_Table(f"tasks.{name}.judging", judging).rest(),
    )


def _check_judges(task: str, metric: str, judging: Values) -> None:
    """Refuse judges that are not there, or that do not give the metric."""
    judges = judging.get("judges", list(JUDGE_OF.values()))
    known = (*dict.fromkeys(JUDGE_OF.values()), "utmos")
    if not isinstance(judges, list) or any(judge not in known for judge in judges):
        raise SettingsError(f"tasks.{task}.judging: judges must be of {', '.join(known)}, got {judges!r}")
    if JUDGE_OF[metric] not in judges:
        raise SettingsError(f"tasks.{task}: metric {metric} is given by the judge {JUDGE_OF[metric]}; add it to judges")


def _factor(name: str, table: _Table, centre: Values, all_tasks: Sequence[str]) -> Factor:
    levels = {level: values.rest() for level, values in table.tables("levels", f"factors.{name}.")}
    tasks = tuple(table.take("tasks", list, list(all_tasks)))
    table.empty()
    if bad := [task for task in tasks if not isinstance(task, str)]:
        raise SettingsError(f"factors.{name}: tasks must be names, got {bad[0]!r}")
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
    for name in study.corpora:
        root(study.corpora, name)
    for encoder in study.encoders.values():
        if encoder.like is not None and study.encoders[encoder.like].like is not None:
            raise SettingsError(f"encoders.{encoder.name}: {encoder.like} has random weights itself; name its own like")
    for where, values in _all_values(study):
        _check_values(where, values)
        if "encoder" in values:
            _known(where, "encoder", values["encoder"], study.encoders)
        for name in values.get("codebooks_of", ()):
            if name != OWN:
                _known(where, "corpus", name, study.corpora)


def _check_values(where: str, values: Values) -> None:
    """Refuse values that choose tokens and are of another kind."""
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "encoder": ("a name", lambda value: isinstance(value, str)),
        "layers": ("a list of different whole numbers", lambda value: _distinct(value, int)),
        "num_clusters": ("a whole number", lambda value: type(value) is int),
        "codebooks_of": ("a list of different names", lambda value: _distinct(value, str)),
    }
    for key, (kind, fits) in kinds.items():
        if key in values and not fits(values[key]):
            raise SettingsError(f"{where}: {key} must be {kind}, got {values[key]!r}")


def _distinct(value: Any, kind: type) -> bool:
    return (
        isinstance(value, tuple) and bool(value) and all(type(each) is kind for each in value)
        and len(set(value)) == len(value)
    )  # fmt: skip


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
