"""How a report is to be read: what an interval is, and how many false differences are to be expected."""

from pipeline.study.facts import StudyFacts
from pipeline.study.report.blocks import Block, Paragraph, Points
from pipeline.study.statistics.findings import FALSE_AT_95, comparisons


def reading(facts: StudyFacts) -> list[Block]:
    """Say how to read the figures."""
    count, told = comparisons(facts.levels)
    evidence = sum(len(claim.evidence) for claim in facts.claims)
    seeds = len(facts.seeds)
    points = [
        ("Figures.", "A figure is the mean over the seeds that are done, plus or minus the standard error of that "
         f"mean; the study has {seeds} seed{'s' * (seeds != 1)}. One alone has no standard error: it does not say how "
         "much is noise."),
        ("Differences.", "A difference is a level less the centre, of the same seeds and the same utterances. Its "
         "interval holds 95 % of the bootstrap draws of utterances and seeds, which are drawn for both at once: it is "
         "paired by seed and utterance. With few seeds such an interval tends to be too narrow."),
        ("Better and worse.", "A difference is called one only where its interval does not hold 0. Else the level "
         "cannot be told apart from the centre, which does not say that the two are equal. What was trained with one "
         "seed alone is called neither: its interval knows nothing of what another seed would do."),
        ("Many comparisons.", f"{count} levels are compared with a centre, and {told} of them can be told apart. At "
         f"95 %, {count} x {FALSE_AT_95} = {count * FALSE_AT_95:.1f} false differences must be expected where nothing "
         f"differs. Claims rest on {evidence} comparisons, some of them the same: at most "
         f"{evidence * FALSE_AT_95:.1f} more. Nothing is corrected for this."),
        ("One factor at a time.", "Each level changes one factor of the centre. What two factors do together is not "
         "asked, and another centre may give other differences."),
        ("Shares of variance.", "How much of the variance of a task's trials goes with each factor; seeds stands for "
         "what the factors leave. Which levels were chosen decides how much a factor can explain."),
        ("Weights and vocoders.", "Weights of layers, and vocoders beside each other, have no interval of their "
         "difference. They are called apart where twice the standard errors on both sides do not meet."),
        ("Bits per second.", "The frame rate times log2 K, summed over the layers that are used."),
        ("One trial.", "The interval of one trial is over its utterances alone; seeds are not in it."),
        ("Where a figure is from.", "Every level names its trials by key. Trials lists each with its seed, its figure, "
         "its folder and the command that trains it again; the same key finds its rows in results.parquet. One without "
         "a folder was taken over from another run."),
    ]  # fmt: skip
    return [Points(points=[Paragraph(strong=strong, text=text) for strong, text in points])]
