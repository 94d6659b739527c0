"""The pictures of a study as PNG, where matplotlib is installed."""

from pipeline.cards.plots import can_plot
from pipeline.evaluation.picture import Picture
from pipeline.study.facts import StudyFacts
from pipeline.study.metrics import of_tokens
from pipeline.study.report.bar_plots import layer_use_plot, shares_plot, spoken_plot
from pipeline.study.report.bitrate_plot import bitrate_plot
from pipeline.study.report.level_plot import level_plot


def draw(facts: StudyFacts) -> list[Picture]:
    """Draw what a study has numbers for; nothing without matplotlib."""
    if not can_plot():
        return []
    tasks = [task for task in facts.tasks if any(level.task == task for level in facts.levels)]
    found = [level_plot(facts, task) for task in tasks]
    found += [shares_plot(facts)] if facts.shares else []
    found += [layer_use_plot(facts)] if facts.layer_use else []
    found += [bitrate_plot(facts, task) for task in tasks if not of_tokens(facts.tasks[task])]
    return found + ([spoken_plot(facts)] if facts.spoken else [])
