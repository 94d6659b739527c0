"""Puts what trials found together: levels, shares of variance, layer use, vocoders, and what all of it took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.metrics.uncertainty import over_seeds
from pipeline.schema import layer_column
from pipeline.study.facts import Cost, Failure, LayerUse, Level, Share, Spoken, StudyFacts
from pipeline.study.metrics import of_tokens
from pipeline.study.planning.trials import Trial
from pipeline.study.statistics.claims import claims
from pipeline.study.statistics.collecting import Found
from pipeline.study.statistics.comparing import level_of, shares
from pipeline.study.statistics.findings import findings
from pipeline.study.statistics.laid import ALL, Laid
from pipeline.study.table import CENTRE, OF_TOKENS, VOCODER, Study


def assemble(
    laid: Laid, *, costs: Sequence[Cost], failures: Sequence[Failure], told: Sequence[tuple[str, str]]
) -> StudyFacts:
    """Say all that a study found.

    Args:
        laid: Its trials.
        costs: Of shared parts and trials.
        failures: Trials that failed.
        told: What the head of the report says.
    """
    study = laid.study
    levels = [level for task in study.tasks for level in _levels(laid, task)]
    explained = [share for task in study.tasks for share in _shares(laid, task)]
    use = list(_layer_use(laid))
    spoken = list(_spoken(laid))
    tried = claims(laid)
    centre = {key: _text(value) for key, value in study.centre.items()}
    return StudyFacts(
        name=study.name,
        seeds=study.seeds,
        centre=centre,
        factors={name: tuple(factor.levels) for name, factor in study.factors.items()},
        tasks={name: task.metric for name, task in study.tasks.items()},
        results=[result for found in laid.found.values() for result in found.results],
        levels=levels,
        shares=explained,
        claims=tried,
        findings=findings(levels, explained, tried, use, spoken, centre),
        layer_use=use,
        spoken=spoken,
        costs=costs,
        failures=failures,
        told=told,
    )


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _levels(laid: Laid, task: str) -> Iterator[Level]:
    metric = laid.study.tasks[task].metric
    for name in laid.factors_of(task):
        factor = laid.study.factors[name]
        centre = laid.runs(task, name, factor.centre)
        for level, values in factor.levels.items():
            mine = laid.runs(task, name, level)
            other = level == factor.centre or _incomparable(metric, values)
            if mine is not None:
                yield level_of(task, metric, name, level, mine, None if other else centre)


def _incomparable(metric: str, values: Mapping[str, Any]) -> bool:
    """Say whether a level makes other tokens, which a metric that counts tokens cannot be compared over."""
    return of_tokens(metric) and bool(set(values) & set(OF_TOKENS))


def _shares(laid: Laid, task: str) -> list[Share]:
    metric, found = laid.study.tasks[task].metric, {}
    for name in laid.factors_of(task):
        levels = laid.study.factors[name].levels
        if not any(_incomparable(metric, values) for values in levels.values()):
            found[name] = {level: runs for level in levels if (runs := laid.runs(task, name, level))}
    return shares(task, found)


def _centre(laid: Laid, task: str) -> list[Found]:
    keys = [trial.key for trial in laid.trials if trial.cell.task.name == task and not trial.cell.factor]
    return [laid.found[key] for key in keys if key in laid.found]


def _layer_use(laid: Laid) -> Iterator[LayerUse]:
    for task in laid.study.tasks:
        settings = {**laid.study.tasks[task].settings, **laid.study.centre}
        learned = settings.get("fusion", "attention") in ("attention", "weighted")
        mine = [found.results[0] for found in _centre(laid, task) if found.results and learned]
        mine = [result for result in mine if result.layer_use]
        if mine:
            columns = zip(*(result.layer_use for result in mine), strict=True)
            names = tuple(map(layer_column, mine[0].layers))
            yield LayerUse(task=task, layers=names, weights=tuple(map(over_seeds, columns)))


def _spoken(laid: Laid) -> Iterator[Spoken]:
    """Give the centre's vocoder on each set of layers, and those that know other layers on all of theirs."""
    if VOCODER not in laid.study.tasks:
        return
    metric = laid.study.tasks[VOCODER].metric
    vocoders: dict[str, dict[str, list[float]]] = {}
    for trial in laid.trials:
        found = laid.found.get(trial.key)
        same = found is not None and trial.cell.task.name == VOCODER
        if found is None or not same or (trial.cell.factor and "layers" not in _changed(laid.study, trial)):
            continue
        name = trial.cell.level if trial.cell.factor else CENTRE
        for result in found.results:
            if result.metric == metric:
                condition = result.condition if not trial.cell.factor else "+".join(map(layer_column, result.layers))
                if trial.cell.factor and result.condition != ALL:
                    continue
                vocoders.setdefault(name, {}).setdefault(condition, []).append(result.value)
    for name, conditions in vocoders.items():
        for condition, values in conditions.items():
            yield Spoken(vocoder=name, condition=condition, metric=metric, figure=over_seeds(values))


def _changed(study: Study, trial: Trial) -> Mapping[str, Any]:
    return study.factors[trial.cell.factor].levels[trial.cell.level]
