"""The claims of the paper, each tried on a study by rule: held, not held, or not decidable at this size.

A comparison of two seeds or more speaks for or against a claim where its 95 % interval does not hold 0. A claim is
held where one speaks for it and none against it, not held where one speaks against it and none for it, and not
decidable otherwise.

Source: Mousavi et al. 2024, How Should We Extract Discrete Audio Tokens from Self-Supervised Models?, arXiv 2406.10735.
"""

from collections.abc import Iterator, Sequence

from pipeline.study.facts import Claim, Evidence, Verdict
from pipeline.study.metrics import METRICS, of_tokens
from pipeline.study.statistics.comparing import Runs, paired, says
from pipeline.study.statistics.laid import Laid
from pipeline.study.table import OWN, VOCODER, root

DISCRIMINATIVE = ("asr", "sid", "er")
GENERATIVE = ("se", "tts", VOCODER)
ACTING = {"num_clusters": "K", "embedding_init": "initialisation", "codebooks_of": "domain of the K-means data"}
"""Settings that are said to act differently by task."""


def claims(laid: Laid) -> list[Claim]:
    """Try the claims on a study."""
    return [
        _claim(
            "The attention over layers does better than each single layer.",
            [each for task in (*DISCRIMINATIVE, "se", "tts") for each in _against_single(laid, task)],
            "no task has both a centre of several layers, fused by attention, and one of one",
        ),
        _claim(
            "One scalable vocoder does better than vocoders of single layers.",
            list(_scalable(laid)),
            "there is no vocoder of several layers beside vocoders of one",
        ),
        _claim(
            "Low layers serve reconstruction, high layers content.",
            list(_low_and_high(laid)),
            "neither the vocoder nor asr has levels of a low and of a high layer",
        ),
        *(_acts_differently(laid, setting, name) for setting, name in ACTING.items()),
        _claim(
            "Generative tasks do better with codebooks of another domain than their own.",
            list(_out_of_domain(laid)),
            "no generative task that is judged by its speech has codebooks of its own domain and of another",
        ),
    ]


def _claim(text: str, evidence: Sequence[Evidence], absent: str) -> Claim:
    speaks = {each.speaks for each in evidence}
    verdict: Verdict = "not decidable"
    if True in speaks and False not in speaks:
        verdict, why = "held", "At least one comparison speaks for it and none against it."
    elif False in speaks and True not in speaks:
        verdict, why = "not held", "At least one comparison speaks against it and none for it."
    elif speaks >= {True, False}:
        why = "Comparisons speak for it and against it."
    elif evidence:
        why = "No interval of two seeds or more excludes 0."
    else:
        why = f"The study does not ask: {absent}."
    return Claim(text=text, verdict=verdict, evidence=tuple(evidence), why=why)


def _evidence(text: str, metric: str, first: Runs | None, second: Runs | None) -> Iterator[Evidence]:
    """Compare two, of which the claim says that the first is better."""
    if first is None or second is None:
        return
    found = paired(first, second)
    if found is not None:
        told = says(first, second) and not found.low <= 0 <= found.high
        speaks = (found.value < 0) == METRICS[metric].lower_is_better if told else None
        yield Evidence(text=f"{text}, {metric}", difference=found, speaks=speaks)


def _single(laid: Laid, task: str) -> dict[int, tuple[str, str]]:
    """Give the factor and level of each layer that is tried alone, with all else as in the centre."""
    found = {}
    for name in laid.factors_of(task):
        for level, values in laid.study.factors[name].levels.items():
            if set(values) == {"layers"} and len(values["layers"]) == 1:
                found[values["layers"][0]] = (name, level)
    return found


def _several(laid: Laid) -> bool:
    return len(laid.study.centre["layers"]) > 1


def _attends(laid: Laid, task: str) -> bool:
    """Say whether the centre of a task fuses by attention, which is the default."""
    settings = {**laid.study.tasks[task].settings, **laid.study.centre}
    return bool(settings.get("fusion", "attention") == "attention")


def _against_single(laid: Laid, task: str) -> Iterator[Evidence]:
    """Compare the centre with the single layer that is best on the test, which favours that one."""
    if (
        task not in laid.study.tasks
        or not _several(laid)
        or not _attends(laid, task)
        or of_tokens(laid.study.tasks[task].metric)
    ):
        return
    metric = laid.study.tasks[task].metric
    tried = {level: laid.runs(task, factor, level) for factor, level in _single(laid, task).values()}
    there = {level: runs for level, runs in tried.items() if runs is not None}
    if there:
        sign = 1 if METRICS[metric].lower_is_better else -1
        best = min(there, key=lambda level: sign * _mean(there[level]))
        centre = laid.runs(task, "", "")
        yield from _evidence(f"{task}: attention less the best single layer ({best})", metric, centre, there[best])


def _scalable(laid: Laid) -> Iterator[Evidence]:
    if VOCODER not in laid.study.tasks or not _several(laid):
        return
    metric = laid.study.tasks[VOCODER].metric
    for layer, (factor, level) in sorted(_single(laid, VOCODER).items()):
        alone = laid.runs(VOCODER, factor, level)
        text = f"scalable vocoder less the one of layer {layer}, both from layer {layer}"
        yield from _evidence(text, metric, laid.runs(VOCODER, "", "", f"layer_{layer:02d}"), alone)
        text = f"scalable vocoder from all its layers less the one of layer {layer}"
        yield from _evidence(text, metric, laid.runs(VOCODER, "", ""), alone)


def _low_and_high(laid: Laid) -> Iterator[Evidence]:
    for task, better in ((VOCODER, "low"), ("asr", "high")):
        if task not in laid.study.tasks:
            continue
        single = _single(laid, task)
        if len(single) < 2:
            continue
        (low, of_low), (high, of_high) = min(single.items()), max(single.items())
        runs = {"low": laid.runs(task, *of_low), "high": laid.runs(task, *of_high)}
        other = "high" if better == "low" else "low"
        numbers = {"low": low, "high": high}
        text = f"{task}: layer {numbers[better]} less layer {numbers[other]}"
        yield from _evidence(text, laid.study.tasks[task].metric, runs[better], runs[other])


def _mean(runs: Runs) -> float:
    figures = runs.figures()
    return sum(figures) / len(figures)


def _acts_differently(laid: Laid, setting: str, name: str) -> Claim:
    """Say whether a level is better than the centre on one task and worse on another."""
    for_it: list[Evidence] = []
    one_way: list[Evidence] = []
    silent: list[Evidence] = []
    for factor in laid.study.factors.values():
        for level, values in factor.levels.items():
            if setting in values and level != factor.centre:
                told = list(_by_task(laid, factor.name, level))
                spoken = [each for each in told if each.speaks is not None]
                silent += [each for each in told if each.speaks is None]
                (for_it if len({each.speaks for each in spoken}) == 2 else one_way).extend(spoken)
    text = f"The {name} acts differently by task."
    if for_it:
        evidence = [Evidence(text=each.text, difference=each.difference, speaks=True) for each in for_it]
        why = "A level is better than the centre on one task and worse on another."
        return Claim(text=text, verdict="held", evidence=tuple(evidence), why=why)
    tasks = {each.text.split(":")[0] for each in one_way}
    evidence = [Evidence(text=each.text, difference=each.difference, speaks=None) for each in (*one_way, *silent)]
    if len(tasks) > 1 and not silent:
        against = [Evidence(text=each.text, difference=each.difference, speaks=False) for each in one_way]
        why = "Every level does the same to all tasks."
        return Claim(text=text, verdict="not held", evidence=tuple(against), why=why)
    why = "No level is seen to be better on one task and worse on another." if evidence else "The study does not ask."
    return Claim(text=text, verdict="not decidable", evidence=tuple(evidence), why=why)


def _by_task(laid: Laid, factor: str, level: str) -> Iterator[Evidence]:
    for task in laid.study.factors[factor].tasks:
        metric = laid.study.tasks[task].metric
        if not of_tokens(metric):
            text = f"{task}: {factor} {level} less {laid.study.factors[factor].centre}"
            yield from _evidence(text, metric, laid.runs(task, factor, level), laid.runs(task, "", ""))


def _out_of_domain(laid: Laid) -> Iterator[Evidence]:
    for task in GENERATIVE:
        if task not in laid.study.tasks or of_tokens(laid.study.tasks[task].metric):
            continue
        own = root(laid.study.corpora, laid.study.tasks[task].corpus)
        levels = {}
        for name in laid.factors_of(task):
            factor = laid.study.factors[name]
            for level, values in factor.levels.items():
                of = values.get("codebooks_of", laid.study.centre["codebooks_of"])
                if any("codebooks_of" in each for each in factor.levels.values()):
                    levels[name, level] = tuple(own if each == OWN else each for each in of)
        inside = [place for place, of in levels.items() if of == (own,)]
        outside = [place for place, of in levels.items() if own not in of]
        for place in outside:
            for home in inside[:1]:
                text = f"{task}: {place[0]} {place[1]} less {home[1]}"
                metric = laid.study.tasks[task].metric
                yield from _evidence(text, metric, laid.runs(task, *place), laid.runs(task, *home))
