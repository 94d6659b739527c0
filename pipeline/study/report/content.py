"""All that a report says, in order: what was found and the paper's claims, each task, the rest, every trial."""

from collections.abc import Mapping, Sequence

from pipeline.study.facts import Claim, Level, StudyFacts
from pipeline.study.metrics import METRICS
from pipeline.study.report.blocks import Block, Folded, Grid, Heading, Paragraph, Points, Section
from pipeline.study.report.reading import reading
from pipeline.study.report.summaries import bitrates, costs, failures, layer_use, shares, spoken
from pipeline.study.report.task import task_sections
from pipeline.study.report.trials import trials
from pipeline.study.statistics.ranking import best_of, by_factor, centre_of, outcome
from pipeline.study.statistics.wording import difference, direction

_SPEAKS = {True: "for", False: "against", None: "says nothing"}


def title(facts: StudyFacts) -> str:
    """Name the report."""
    return f"Study: {facts.name}"


def content(facts: StudyFacts) -> list[Section]:
    """Give the sections in order."""
    return [
        Section(anchor="findings", heading="What was found", blocks=_findings(facts)),
        Section(anchor="claims", heading="Claims of the paper", blocks=_claims(facts.claims)),
        Section(anchor="asked", heading="What was asked", blocks=_asked(facts)),
        *task_sections(facts),
        Section(anchor="shares", heading="Shares of variance", blocks=shares(facts)),
        Section(anchor="layer-use", heading="Layer use", blocks=layer_use(facts)),
        Section(anchor="bitrate", heading="Bitrate and quality", blocks=bitrates(facts)),
        Section(anchor="spoken", heading="Vocoders by set of layers", blocks=spoken(facts)),
        Section(anchor="costs", heading="Costs", blocks=costs(facts)),
        Section(anchor="failures", heading="Failures", blocks=failures(facts)),
        Section(anchor="reading", heading="How to read this", blocks=reading(facts)),
        Section(anchor="trials", heading="Trials", blocks=trials(facts)),
    ]


def _findings(facts: StudyFacts) -> list[Block]:
    if not facts.levels and not facts.findings:
        return [Paragraph(text="Nothing: no trial was compared.")]
    points = _points(facts)
    overall, tasks = [each for each in points if not each.strong], [each for each in points if each.strong]
    return [Points(points=overall), *_glance(facts), Points(points=tasks)]


def _points(facts: StudyFacts) -> list[Paragraph]:
    """Put sentences that begin with the same task into one point."""
    found: list[Paragraph] = []
    for sentence in facts.findings:
        task, colon, rest = sentence.partition(": ")
        if not colon or task not in facts.tasks:
            found.append(Paragraph(text=sentence))
        elif found and found[-1].strong == f"{task}:":
            found[-1] = Paragraph(strong=found[-1].strong, text=f"{found[-1].text} {rest}")
        else:
            found.append(Paragraph(strong=f"{task}:", text=rest))
    return found


def _glance(facts: StudyFacts) -> list[Block]:
    tasks = [task for task in facts.tasks if by_factor(facts.levels, task)]
    factors = [name for name in facts.factors if any(name in by_factor(facts.levels, task) for task in tasks)]
    if not factors:
        return []
    rows = [[factor, *(_best(by_factor(facts.levels, task).get(factor, ())) for task in tasks)] for factor in factors]
    head = ["factor", *(f"{task}, {METRICS[facts.tasks[task]].label}" for task in tasks)]
    caption = (
        "The level with the best mean, its difference to the centre with the 95 % interval, and whether it can be told "
        "apart from the centre"
    )
    return [Grid(caption=caption, head=head, rows=rows, words=head)]


def _best(levels: Sequence[Level]) -> str:
    if not levels:
        return "not tried"
    if len(levels) < 2:
        return f"{levels[0].level} alone is done"
    if all(level.difference is None for level in levels):
        return "not compared"
    best = best_of(levels)
    if best.difference is None:
        return f"{best.level}: {outcome(best, centre_of(levels))}"
    return f"{best.level}: {difference(best.difference)}, {outcome(best, centre_of(levels))}"


def _claims(claims: Sequence[Claim]) -> list[Block]:
    found: list[Block] = [] if claims else [Paragraph(text="None was tried.")]
    for claim in claims:
        found += [Heading(text=claim.text), Paragraph(strong=f"{claim.verdict.capitalize()}.", text=claim.why)]
        if not claim.evidence:
            found.append(Paragraph(text="No comparison of this study bears on it."))
            continue
        rows = [[each.text, difference(each.difference), _SPEAKS[each.speaks]] for each in claim.evidence]
        grid = Grid(
            caption=f"What this claim rests on: {claim.text}",
            head=["what is compared", "difference (95 %)", "speaks"],
            rows=rows,
            words=["what is compared", "speaks"],
        )
        count = len(claim.evidence)
        found.append(Folded(summary=f"Evidence: {count} comparison{'s' * (count != 1)}", blocks=[grid]))
    return found


def _asked(facts: StudyFacts) -> list[Block]:
    told = [["seeds", ", ".join(map(str, facts.seeds))], *map(list, facts.told)]
    blocks: list[Block] = [_words("The study", ["what", "value"], told)]
    blocks.append(_words("The centre, around which one factor at a time is varied", ["setting", "value"],
                         _pairs(facts.centre)))  # fmt: skip
    rows = [[name, "; ".join(levels)] for name, levels in facts.factors.items()]
    blocks.append(_words("Factors and their levels", ["factor", "levels"], rows))
    rows = [[task, METRICS[metric].label, metric, direction(metric)] for task, metric in facts.tasks.items()]
    return [*blocks, _words("Tasks and what they are judged by", ["task", "metric", "called", "way"], rows)]


def _pairs(found: Mapping[str, str]) -> list[list[str]]:
    return [[key, value] for key, value in found.items()]


def _words(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    return Grid(caption=caption, head=head, rows=rows, words=head)
