"""What a study found, in sentences that its numbers give by rule.

A level is called better or worse than the centre only where the interval of their difference does not hold 0. Figures
without such an interval, as weights of layers, are told apart only by twice their standard errors.
"""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.metrics.uncertainty import OverSeeds
from pipeline.study.facts import SEEDS, Claim, LayerUse, Level, Share, Spoken
from pipeline.study.metrics import METRICS
from pipeline.study.statistics.ranking import best_of, by_factor, centre_of
from pipeline.study.statistics.wording import CANNOT_TELL, difference, over_seeds, percent
from pipeline.study.table import VOCODER

FALSE_AT_95 = 0.05
"""Share of intervals that do not hold 0 where nothing differs."""
_VERDICTS = {"held": "held", "not held": "did not hold", "not decidable": "cannot be decided"}


def findings(
    levels: Sequence[Level],
    shares: Sequence[Share],
    claims: Sequence[Claim],
    layer_use: Sequence[LayerUse],
    spoken: Sequence[Spoken],
    centre: Mapping[str, str],
) -> list[str]:
    """Write the sentences; those on a task begin with its name and a colon.

    Args:
        levels: Every level of every factor on every task.
        shares: Of the variance.
        claims: Of the paper, tried.
        layer_use: Of the tasks at the centre.
        spoken: Of the vocoders.
        centre: Its settings, as text.
    """
    tasks = dict.fromkeys([*(found.task for found in levels), *(found.task for found in layer_use)])
    sentences = [*_compared(levels, centre), *_claimed(claims)]
    for task in tasks:
        lines = [*_share(shares, task), *_levels(levels, task), *_layers(layer_use, task)]
        lines += _speaking(spoken, levels) if task == VOCODER else []
        sentences += [f"{task}: {line}" for line in lines]
    return sentences


def comparisons(levels: Sequence[Level]) -> tuple[int, int]:
    """Count the comparisons with the centre, and those of them that can be told apart."""
    compared = [level for level in levels if level.difference is not None]
    return len(compared), sum(level.better is not None for level in compared)


def _compared(levels: Sequence[Level], centre: Mapping[str, str]) -> Iterator[str]:
    count, told = comparisons(levels)
    settings = ", ".join(f"{key} {value}" for key, value in centre.items())
    if not count:
        yield f"No level was compared with the centre ({settings})."
        return
    yield (
        f"Of {count} comparisons of a level with the centre ({settings}), {told} can be told apart at 95 %; where "
        f"nothing differed at all, {count * FALSE_AT_95:.1f} would be so by chance."
    )


def _claimed(claims: Sequence[Claim]) -> Iterator[str]:
    told = []
    for verdict, words in _VERDICTS.items():
        texts = [f'"{claim.text.rstrip(".")}"' for claim in claims if claim.verdict == verdict]
        told += [f"{len(texts)} {words} ({', '.join(texts)})"] if texts else []
    if told:
        yield f"Of {len(claims)} claims of the paper, {'; '.join(told)}."


def _share(shares: Sequence[Share], task: str) -> Iterator[str]:
    factors = [found for found in shares if found.task == task and found.factor != SEEDS]
    left = sum(found.share for found in shares if found.task == task and found.factor == SEEDS)
    if factors:
        most = max(factors, key=lambda found: found.share)
        than = "more than any factor explains" if left > most.share else "left to seeds"
        yield (
            f"Of the factors, {most.factor} explains the largest share of the variance of trials, "
            f"{percent(most.share)}; {percent(left)} is {than}."
        )


def _levels(levels: Sequence[Level], task: str) -> Iterator[str]:
    factors = by_factor(levels, task)
    centre = next((found for those in factors.values() if (found := centre_of(those))), None)
    if centre is not None:
        yield f"The centre has a mean {METRICS[centre.metric].label} of {over_seeds(centre.figure)}."
    alike = []
    for factor, those in factors.items():
        if any(level.better for level in those):
            yield f"By {factor}, {'; '.join([_best(those), *_told(those)])}."
        elif any(level.difference for level in those):
            alike.append(f"{factor} ({_best(those)})")
    if alike:
        yield f"No level can be told from the centre by {', nor by '.join(alike)}."


def _best(levels: Sequence[Level]) -> str:
    best = best_of(levels)
    if best is centre_of(levels):
        return "the centre has the best mean"
    begun = f"{best.level} has the best mean, {over_seeds(best.figure)}"
    if best.difference is None:
        return f"{begun}, not compared with the centre"
    told = difference(best.difference)
    if best.better is None:
        return f"{begun}, which {CANNOT_TELL} from the centre: {told}"
    side = "better" if best.better == "level" else "worse"
    return f"{begun}, {side} than the centre: {told}"


def _told(levels: Sequence[Level]) -> Iterator[str]:
    best = best_of(levels)
    for side, words in (("level", "better than the centre too"), ("centre", "worse than the centre")):
        names = [level.level for level in levels if level is not best and level.better == side]
        if names:
            yield f"{words}: {', '.join(names)}"


def _layers(layer_use: Sequence[LayerUse], task: str) -> Iterator[str]:
    for use in layer_use:
        if use.task != task or not use.weights:
            continue
        pairs = zip(use.layers, use.weights, strict=True)
        (name, most), *rest = sorted(pairs, key=lambda pair: pair[1].mean, reverse=True)
        begun = f"In the centre {name} has the highest mean weight, {over_seeds(most)}"
        if not rest:
            yield f"The centre has one layer, {name}."
            continue
        follower, following = rest[0]
        if most.standard_error is None or following.standard_error is None:
            yield f"{begun}; {follower} follows, {over_seeds(following)}; one seed does not say how sure this is."
        elif _apart(most, following):
            yield f"{begun}; {follower} follows, {over_seeds(following)}."
        else:
            yield f"{begun}, but by the standard errors it {CANNOT_TELL} from {follower}, {over_seeds(following)}."


def _speaking(spoken: Sequence[Spoken], levels: Sequence[Level]) -> Iterator[str]:
    metric = next((level.metric for level in levels if level.task == VOCODER), None)
    those = [found for found in spoken if found.metric == metric]
    several = several_sets(those)
    alone = {found.condition: found for found in those if found.vocoder not in several}
    for vocoder in several:
        pairs = [(found, alone[found.condition]) for found in those
                 if found.vocoder == vocoder and found.condition in alone]  # fmt: skip
        told = [f"{one.condition} {over_seeds(one.figure)} against {over_seeds(other.figure)} ({_beside(one, other)})"
                for one, other in pairs]  # fmt: skip
        if told:
            label = METRICS[pairs[0][0].metric].label
            yield f"Mean {label} of {vocoder} against vocoders trained on a set of layers alone: {'; '.join(told)}."


def several_sets(spoken: Sequence[Spoken]) -> list[str]:
    """Name the vocoders that speak more than one set of layers."""
    sets: dict[str, set[str]] = {}
    for found in spoken:
        sets.setdefault(found.vocoder, set()).add(found.condition)
    return [vocoder for vocoder, conditions in sets.items() if len(conditions) > 1]


def _beside(one: Spoken, other: Spoken) -> str:
    if not _apart(one.figure, other.figure):
        return CANNOT_TELL
    lower = one.figure.mean < other.figure.mean
    return "better" if lower == METRICS[one.metric].lower_is_better else "worse"


def _apart(first: OverSeeds, second: OverSeeds) -> bool:
    """Say whether two means over seeds lie apart by more than twice the standard error of each; never for one seed."""
    if first.standard_error is None or second.standard_error is None:
        return False
    return abs(first.mean - second.mean) > 2 * (first.standard_error + second.standard_error)
