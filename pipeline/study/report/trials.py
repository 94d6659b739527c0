"""Every trial of a study: what it was, what it gave, where it lies, and the command that makes it again."""

from pipeline.metrics.uncertainty import Interval
from pipeline.study.facts import Result, StudyFacts
from pipeline.study.report.blocks import Block, Commands, Folded, Grid, Paragraph
from pipeline.study.report.summaries import one_per_trial
from pipeline.study.statistics.wording import interval, number


def trials(facts: StudyFacts) -> list[Block]:
    """List the trials, all their figures, and their commands."""
    rows = one_per_trial(facts.results)
    if not rows:
        return [Paragraph(text="None finished.")]
    text = (
        f"{len(rows)} trials with {len(facts.results)} figures, as in results.parquet. Commands are run from the "
        "project's root."
    )
    return [
        Paragraph(text=text),
        Folded(summary=f"Trials: {len(rows)}", blocks=[_trials(facts, rows)]),
        Folded(summary=f"All figures: {len(facts.results)}", blocks=[_figures(facts)]),
        Folded(summary=f"Commands: {len(rows)}", blocks=[_commands(rows)]),
    ]


def _trials(facts: StudyFacts, rows: list[Result]) -> Grid:
    judged: dict[str, list[Result]] = {}
    for row in facts.results:
        if row.metric == facts.tasks.get(row.task):
            judged.setdefault(row.trial, []).append(row)
    head = ["trial", "task", "factor", "level", "seed", "metric", "value (95 %)", "minutes", "folder"]
    lines = [
        [row.trial, row.task, row.factor or "none", row.level, str(row.seed), facts.tasks.get(row.task, row.metric),
         _value(judged.get(row.trial, [])), f"{row.seconds / 60:.1f}", row.folder]
        for row in rows
    ]  # fmt: skip
    words = ["task", "factor", "level", "metric", "folder"]
    return Grid(caption="Trials, each with the metric of its task", head=head, rows=lines, words=words)


def _value(rows: list[Result]) -> str:
    if len(rows) > 1:
        return f"of {len(rows)} sets of layers, below"
    return interval(Interval(value=rows[0].value, low=rows[0].low, high=rows[0].high)) if rows else "none"


def _figures(facts: StudyFacts) -> Grid:
    head = ["trial", "condition", "metric", "value", "from", "to", "utterances"]
    lines = [
        [row.trial, row.condition or "none", row.metric, *map(number, (row.value, row.low, row.high)),
         f"{row.utterances:,}"]
        for row in facts.results
    ]  # fmt: skip
    caption = "All figures of all trials, with 95 % bootstrap intervals over utterances"
    return Grid(caption=caption, head=head, rows=lines, words=["condition", "metric"])


def _commands(rows: list[Result]) -> Commands:
    lines = []
    for row in rows:
        level = f"{row.factor} {row.level}" if row.factor else row.level
        lines += [f"# {row.trial}: {row.task}, {level}, seed {row.seed}", row.command]
    return Commands(caption="Commands of the trials, each below its key", lines=lines)
