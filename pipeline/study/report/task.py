"""A task in a report: its levels, factor by factor, and whose trials they are."""

from collections.abc import Sequence

from pipeline.study.facts import Level, StudyFacts
from pipeline.study.metrics import METRICS
from pipeline.study.report.blocks import Block, Folded, Grid, Heading, Paragraph, Section, Shown
from pipeline.study.statistics.ranking import by_factor, centre_of, outcome
from pipeline.study.statistics.wording import bits, difference, direction, over_seeds


def levels_picture(task: str) -> str:
    """Name the picture of a task's levels."""
    return f"levels_{task}.png"


def provenance(facts: StudyFacts, rows: str) -> Paragraph:
    """Say which rows of ``results.parquet`` figures are of, and what makes them again.

    Args:
        facts: Of the study.
        rows: Which, as "task asr, metric wer".
    """
    command = dict(facts.told).get("command")
    again = f" Made again by: {command}" if command else ""
    return Paragraph(
        strong="Source:",
        text=f"rows of results.parquet with {rows}; Trials lists the command of each by its key.{again}",
    )


def task_sections(facts: StudyFacts) -> list[Section]:
    """Give a section for each task of the study, with trials or without."""
    found = []
    for number, (task, metric) in enumerate(facts.tasks.items()):
        heading = f"Task {task}: {METRICS[metric].label}"
        found.append(Section(anchor=f"task-{number}", heading=heading, blocks=_task(facts, task, metric)))
    return found


def _task(facts: StudyFacts, task: str, metric: str) -> list[Block]:
    factors = by_factor(facts.levels, task)
    if not factors:
        return [Paragraph(text="No trial of this task is done; those that failed are under Failures.")]
    blocks: list[Block] = [
        Paragraph(text=f"{METRICS[metric].label.capitalize()}: {direction(metric)}."),
        Shown(name=levels_picture(task)),
        provenance(facts, f"task {task}, metric {metric}"),
    ]
    for factor, levels in factors.items():
        blocks += [Heading(text=f"{task}: {factor or 'the centre'}"), _factor(facts, factor, levels, metric)]
    rows = [
        [factor, level.level, ", ".join(level.trials)]
        for factor, levels in factors.items()
        for level in ordered(facts, factor, levels)
    ]
    head = ["factor", "level", "trials"]
    keys = Grid(caption=f"Keys of the trials of {task}, by seed", head=head, rows=rows, words=head)
    return [*blocks, Folded(summary=f"Trials of each level of {task}", blocks=[keys])]


def _factor(facts: StudyFacts, factor: str, levels: Sequence[Level], metric: str) -> Grid:
    centre = centre_of(levels)
    head = ["level", f"{metric}, mean and standard error", "seeds", "difference (95 %) to the centre", "verdict",
            "bits per second"]  # fmt: skip
    rows = [
        [
            level.level,
            over_seeds(level.figure),
            str(level.figure.runs),
            "" if level.difference is None else difference(level.difference),
            outcome(level, centre),
            bits(level.bits_per_second),
        ]
        for level in ordered(facts, factor, levels)
    ]
    there = {level.level for level in levels}
    lacking = [name for name in facts.factors.get(factor, ()) if name not in there]
    # The centre may go by its own name here, and by that of the factor's level in the table of factors.
    if len(lacking) == 1 and centre is not None and centre.level not in facts.factors[factor]:
        lacking = []
    rows += [[name, "no trial is done", "0", "", "not compared", ""] for name in lacking]
    caption = f"{levels[0].task} by {factor or 'the centre'}: {METRICS[metric].label}, {direction(metric)}"
    return Grid(caption=caption, head=head, rows=rows, words=["verdict"])


def ordered(facts: StudyFacts, factor: str, levels: Sequence[Level]) -> list[Level]:
    """Put levels into the order that the study gives them; one that it does not name, as the centre, is first."""
    names = list(facts.factors.get(factor, ()))
    return sorted(levels, key=lambda level: names.index(level.level) if level.level in names else -1)
