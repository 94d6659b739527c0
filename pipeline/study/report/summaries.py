"""What a report says over all tasks: shares of variance, layer use, bitrate, vocoders, costs, failures."""

import statistics
from collections.abc import Sequence

from pipeline.study.facts import Level, Result, Spoken, StudyFacts
from pipeline.study.metrics import METRICS, of_tokens
from pipeline.study.report.blocks import Block, Grid, Heading, Paragraph, Shown
from pipeline.study.report.task import provenance
from pipeline.study.statistics.findings import several_sets
from pipeline.study.statistics.ranking import distinct, front
from pipeline.study.statistics.wording import bits, direction, over_seeds, percent, size, took

SHARES, LAYER_USE, SPOKEN = "shares.png", "layer_use.png", "spoken.png"


def bitrate_picture(task: str) -> str:
    """Name the picture of a task's bitrate and quality."""
    return f"bitrate_{task}.png"


def shares(facts: StudyFacts) -> list[Block]:
    """Say how much of the variance each factor explains."""
    if not facts.shares:
        return [Paragraph(text="None: there are no trials to divide the variance of.")]
    factors = list(dict.fromkeys(found.factor for found in facts.shares))
    by_place = {(found.task, found.factor): percent(found.share) for found in facts.shares}
    tasks = dict.fromkeys(found.task for found in facts.shares)
    rows = [[task, *(by_place.get((task, factor), "not tried") for factor in factors)] for task in tasks]
    caption = "Share of the variance of a task's trials that each factor explains; seeds: what the factors leave"
    return [
        Shown(name=SHARES),
        provenance(facts, "the metric of each task"),
        Grid(caption=caption, head=["task", *factors], rows=rows),
    ]


def layer_use(facts: StudyFacts) -> list[Block]:
    """Say which layers are weighed most."""
    if not facts.layer_use:
        return [Paragraph(text="None: no task of this study fuses layers by weights.")]
    layers = list(dict.fromkeys(layer for use in facts.layer_use for layer in use.layers))
    rows = []
    for use in facts.layer_use:
        weights = dict(zip(use.layers, use.weights, strict=True))
        rows.append([use.task, *(over_seeds(weights[name]) if name in weights else "not used" for name in layers)])
    caption = "Mean weight of each layer in the centre, with its standard error over seeds"
    return [
        Shown(name=LAYER_USE),
        provenance(facts, "no factor, the centre; weights are in layer_use.json within the folder of each trial"),
        Grid(caption=caption, head=["task", *layers], rows=rows),
    ]


def bitrates(facts: StudyFacts) -> list[Block]:
    """Say which levels no other beats in bits per second and quality."""
    told = "By means alone: levels beside each other on the Pareto front may not be told apart."
    blocks: list[Block] = [Paragraph(text=told)]
    for task, metric in facts.tasks.items():
        if of_tokens(metric):
            told = f"{task} has no front: {METRICS[metric].label}s of different tokens say nothing of each other."
            blocks.append(Paragraph(text=told))
        elif levels := distinct(facts.levels, task):
            caption = f"{task}: the Pareto front of bits per second and {METRICS[metric].label}, {direction(metric)}"
            head = ["level", "bits per second", f"{metric}, mean and standard error"]
            rows = [[_named(level), bits(level.bits_per_second), over_seeds(level.figure)] for level in front(levels)]
            blocks += [Heading(text=f"Bitrate of {task}"), Shown(name=bitrate_picture(task))]
            blocks += [provenance(facts, f"task {task}, metric {metric}"), Grid(caption=caption, head=head, rows=rows)]
    return blocks if len(blocks) > 1 else [Paragraph(text="None: no trial gave a figure.")]


def _named(level: Level) -> str:
    return "centre" if level.difference is None else f"{level.factor}: {level.level}"


def spoken(facts: StudyFacts) -> list[Block]:
    """Say how well each vocoder speaks each set of layers."""
    if not facts.spoken:
        return [Paragraph(text="None: this study trains no vocoder.")]
    several = several_sets(facts.spoken)
    metrics = list(dict.fromkeys(found.metric for found in facts.spoken))
    places = dict.fromkeys((found.condition, found.vocoder) for found in facts.spoken)
    conditions = list(dict.fromkeys(condition for condition, _ in places))
    figures = {(found.condition, found.vocoder, found.metric): found for found in facts.spoken}
    rows = [
        [condition, vocoder, "several sets" if vocoder in several else "this set alone",
         *(_spoken(figures.get((condition, vocoder, metric))) for metric in metrics)]
        for condition, vocoder in sorted(places, key=lambda place: conditions.index(place[0]))
    ]  # fmt: skip
    head = ["set of layers", "vocoder", "speaks", *(f"{metric} ({direction(metric)})" for metric in metrics)]
    caption = "Vocoders on each set of layers, mean and standard error over seeds"
    return [
        Shown(name=SPOKEN),
        provenance(facts, "task vocoder and the condition that is spoken"),
        Grid(caption=caption, head=head, rows=rows, words=["vocoder", "speaks"]),
    ]


def _spoken(found: Spoken | None) -> str:
    return "none" if found is None else over_seeds(found.figure)


def costs(facts: StudyFacts) -> list[Block]:
    """Say what the study took."""
    rows = [
        [cost.what, f"{cost.count:,}", took(cost.seconds), took(cost.seconds / cost.count) if cost.count else "",
         f"{cost.audio_hours:,.2f}" if cost.audio_hours else "", size(cost.bytes)]
        for cost in facts.costs
    ]  # fmt: skip
    rows.append(["all", "", took(sum(cost.seconds for cost in facts.costs)), "", "",
                 size(sum(cost.bytes for cost in facts.costs))])  # fmt: skip
    head = ["what", "count", "time of one worker", "per one", "hours of audio", "on disk"]
    blocks: list[Block] = [Grid(caption="What each kind of work took", head=head, rows=rows)]
    if one_each := one_per_trial(facts.results):
        overhead = statistics.median(row.overhead_seconds for row in one_each)
        whole = sum(row.seconds for row in one_each)
        part = sum(row.overhead_seconds for row in one_each) / whole if whole else 0.0
        text = (
            f"From the start of a trial to its first step: {took(overhead)} in the median of {len(one_each)} trials, "
            f"{percent(part)} of the time of all."
        )
        blocks.append(Paragraph(text=text))
    return blocks


def one_per_trial(results: Sequence[Result]) -> list[Result]:
    """Give a row of each trial, its first."""
    found: dict[str, Result] = {}
    for row in results:
        found.setdefault(row.trial, row)
    return list(found.values())


def failures(facts: StudyFacts) -> list[Block]:
    """Say which trials failed."""
    if not facts.failures:
        return [Paragraph(text="No trial failed.")]
    rows = [[failure.trial, failure.name, failure.why] for failure in facts.failures]
    head = ["trial", "name", "why"]
    return [Grid(caption="Trials that failed, and what they raised", head=head, rows=rows, words=head)]
