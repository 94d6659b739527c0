"""The report of a study says the same in HTML and Markdown, and each figure can be traced to its trials."""

import re
from dataclasses import replace

import pytest
from made_browser import HARM
from made_study import FACTORS, SEEDS, TASKS, interval, level, study_facts
from markdown_it import MarkdownIt

from pipeline.cards.plots import can_plot
from pipeline.evaluation.html import table, text
from pipeline.study.facts import StudyFacts
from pipeline.study.report.bitrate_plot import spread
from pipeline.study.report.blocks import Folded, Grid
from pipeline.study.report.content import content
from pipeline.study.report.level_plot import single_seeds
from pipeline.study.report.markdown import markdown
from pipeline.study.report.page import page
from pipeline.study.report.plots import draw
from pipeline.study.report.write import report_files
from pipeline.study.statistics.ranking import by_factor, front
from pipeline.study.statistics.wording import number, size, took

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")


@pytest.fixture(scope="module")
def facts():
    return study_facts()


@pytest.fixture(scope="module")
def html(facts):
    return page(facts, []).decode()


@pytest.fixture(scope="module")
def written(facts):
    return markdown(facts, [])


def grids(facts):
    blocks = [block for section in content(facts) for block in section.blocks]
    blocks += [inner for block in blocks if isinstance(block, Folded) for inner in block.blocks]
    return [block for block in blocks if isinstance(block, Grid)]


def grid(facts, caption):
    (found,) = [each for each in grids(facts) if each.caption.startswith(caption)]
    return found


def cells(source):
    """Give the texts of all cells of Markdown as a reader sees them."""
    return {
        "".join(child.content for child in token.children) for token in PARSER.parse(source) if token.type == "inline"
    }


def test_findings_and_claims_come_before_everything_else(html, written):
    for found, heading in ((html, "<h2"), (written, "\n## ")):
        headings = re.findall(rf"{heading}[^\n]*", found)
        assert "What was found" in headings[0]
        assert "Claims of the paper" in headings[1]
        assert "Trials" in headings[-1]


def test_the_page_and_the_markdown_have_the_same_cells(facts, html, written):
    seen = cells(written)
    for found in grids(facts):
        assert text(found.caption) in html
        for row in found.rows:
            for cell in filter(None, row):
                assert f">{text(cell)}<" in html
                assert cell in seen or HARM in cell


def test_every_finding_is_in_both(facts, html, written):
    assert len(facts.findings) > 20
    shown = " ".join(cells(written))
    for sentence in facts.findings:
        said = sentence.partition(": ")[2] if sentence.split(":")[0] in TASKS else sentence
        assert text(said) in html
        assert said in shown


def test_a_row_says_better_only_where_the_interval_does_not_hold_0(facts):
    rows = [row for task in TASKS for factor in FACTORS for row in grid(facts, f"{task} by {factor}:").rows]
    assert {row[4] for row in rows} == {"centre", "better", "worse", "cannot be told apart"}
    for _, _, seeds, difference, told, _ in rows:
        assert seeds == str(len(SEEDS))
        ends = re.findall(r"[+-]\d+\.\d+", difference)[1:]
        if told == "centre":
            assert not ends
        else:
            assert (told == "cannot be told apart") == (ends[0][0] != ends[1][0])


def test_every_level_leads_by_its_trials_to_rows_of_the_results(facts):
    keys = {row.trial for row in facts.results}
    trials = grid(facts, "Trials, each with the metric of its task")
    assert {row[0] for row in trials.rows} == keys
    for task in TASKS:
        of_levels = grid(facts, f"Keys of the trials of {task}").rows
        assert len(of_levels) == sum(map(len, FACTORS.values()))
        assert all(set(row[2].split(", ")) <= keys for row in of_levels)


def test_every_figure_of_the_results_and_every_command_is_listed(facts, html, written):
    figures = grid(facts, "All figures of all trials")
    assert len(figures.rows) == len(facts.results)
    for row in facts.results:
        assert text(row.command) in html
        assert f"\n{row.command}\n" in written
    shown = {(row[0], row[1], row[2], row[3]) for row in figures.rows}
    assert all((r.trial, r.condition or "none", r.metric, number(r.value)) in shown for r in facts.results)


def test_a_reader_is_told_how_many_false_differences_to_expect(html):
    compared = len(TASKS) * sum(len(levels) - 1 for levels in FACTORS.values())
    assert f"{compared} levels are compared" in html
    assert f"{compared} x 0.05 = {compared * 0.05:.1f} false differences" in html


def test_what_failed_is_text_in_the_page_and_in_the_markdown(html, written):
    assert HARM not in html
    assert text(HARM) in html
    kinds = {token.type for token in PARSER.parse(written)}
    inner = {child.type for token in PARSER.parse(written) for child in token.children or ()}
    assert "html_block" not in kinds
    assert not inner & {"html_inline", "image", "link"}
    assert any(HARM in cell for cell in cells(written))


def test_a_level_without_a_figure_has_a_row_that_says_so():
    facts = study_facts()
    kept = [found for found in facts.levels if (found.task, found.level) != ("asr", "layer 6")]
    row = next(row for row in grid(replace(facts, levels=kept), "asr by layers").rows if row[0] == "layer 6")
    assert row[1] == "no trial is done"
    assert row[4] == "not compared"


def test_a_centre_that_is_of_no_factor_is_in_the_table_of_each(facts):
    centre = level(factor="", name="centre")
    low, large = (level(factor=factor, name="x", difference=interval(0.0, 0.1)) for factor in ("layers", "K"))
    assert by_factor([centre, low, large], "asr") == {"layers": [centre, low], "K": [centre, large]}
    assert by_factor([centre], "asr") == {"": [centre]}
    of_asr = [found for found in facts.levels if found.task == "asr" and found.difference is not None]
    rows = grid(replace(facts, levels=[centre, *of_asr]), "asr by layers").rows
    assert [row[0] for row in rows] == ["centre", "low", "high", "layer 2", "layer 6", "layer 12"]


def test_the_front_holds_what_no_other_level_beats():
    figures = {"few": (100.0, 0.3), "middle": (200.0, 0.2), "same": (200.0, 0.25), "many": (400.0, 0.2)}
    levels = {name: level(name=name, values=(value,), bits=bits) for name, (bits, value) in figures.items()}
    assert front(list(levels.values())) == [levels["few"], levels["middle"]]
    higher = [level("sid", name=n, values=(v,), bits=b) for n, (b, v) in figures.items()]
    assert [found.level for found in front(higher)] == ["few"]


def test_dots_of_a_vocoder_are_of_the_set_of_layers_that_its_level_is_judged_on(facts):
    for found in facts.levels:
        values = single_seeds(found, facts.results)
        assert len(values) == len(SEEDS)
        assert sum(values) / len(values) == pytest.approx(found.figure.mean)


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib, of the extra plots")
def test_every_picture_is_in_the_page_and_a_file_that_the_markdown_links(facts):
    tasks = {task: TASKS[task] for task in ("asr", "vocoder")}
    files = report_files(replace(facts, tasks=tasks))
    drawn = {name for name in files if name.endswith(".png")}
    expected = {f"{kind}_{task}.png" for kind in ("levels", "bitrate") for task in tasks}
    assert drawn == expected | {"shares.png", "layer_use.png", "spoken.png"}
    assert set(files) == drawn | {"index.html", "report.md"}
    assert all(files[name].startswith(b"\x89PNG") for name in drawn)
    tokens = [child for token in PARSER.parse(files["report.md"].decode()) for child in token.children or ()]
    assert {token.attrs["src"] for token in tokens if token.type == "image"} == drawn
    assert files["index.html"].count(b"data:image/png;base64,") == len(drawn)


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib, of the extra plots")
def test_token_errors_of_other_tokens_have_no_front_and_no_best(facts):
    mine = [replace(found, difference=None, better=None) for found in facts.levels if found.task == "se"]
    one = replace(facts, tasks={"se": TASKS["se"]}, levels=mine, shares=(), layer_use=(), spoken=())
    assert [found.name for found in draw(one)] == ["levels_se.png"]
    shown = page(one, []).decode()
    assert "se has no front: token error rates of different tokens say nothing of each other." in shown
    assert "Bitrate of se" not in shown
    best = grid(one, "The level with the best mean").rows
    assert {row[1] for row in best} == {"not compared"}


def test_a_level_that_is_done_alone_is_not_called_the_best(facts):
    one = replace(facts, tasks={"asr": "wer"}, levels=[level(factor="layers", name="low", values=(0.2, 0.3))])
    assert grid(one, "The level with the best mean").rows == [["layers", "low alone is done"]]


def test_pictures_that_nothing_could_draw_are_missed_aloud(html, written):
    for found in (html, written):
        assert "No pictures: matplotlib was not installed" in found


def test_a_study_of_which_nothing_is_there_has_a_report():
    empty = StudyFacts(name="none", seeds=(0,), centre={}, factors={}, tasks={"asr": "wer"}, results=(), levels=(),
                       shares=(), claims=(), findings=(), layer_use=(), spoken=(), costs=())  # fmt: skip
    assert draw(empty) == []
    for found in (page(empty, []).decode(), markdown(empty, [])):
        assert "No pictures" not in found
        assert "Nothing: no trial was compared." in found
        assert "No trial failed." in found


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib, of the extra plots")
def test_a_study_of_one_seed_and_one_level_is_drawn():
    facts = study_facts()
    alone = level(name="all", values=(0.2,))
    one = replace(facts, tasks={"asr": "wer"}, levels=[alone], results=(), seeds=(0,), layer_use=(), spoken=())
    assert [found.name for found in draw(one)] == ["levels_asr.png", "shares.png", "bitrate_asr.png"]
    assert "0.2000 (one seed)" in page(one, []).decode()


@pytest.mark.parametrize("heights", [[0.5] * 8, [0.0, 0.01, 0.3], [0.9, 0.96, 0.97, 0.98, 1.0], [0.1, 0.5, 0.9]])
def test_labels_are_apart_within_the_picture_and_in_order(heights):
    moved = spread(heights)
    assert all(after - before > 0.0519 for before, after in zip(moved, moved[1:], strict=False))
    assert 0.03 <= moved[0] < moved[-1] <= 0.97
    assert (moved == pytest.approx(heights)) == (heights == [0.1, 0.5, 0.9])


def test_columns_of_numbers_and_of_text_are_told_apart():
    found = table("c", ["name", "why", "count"], [["a", "b", "1"]], words=["why"])
    assert '<th scope="col">name</th><th scope="col" class="text">why</th><th scope="col">count</th>' in found
    assert '<td class="text" dir="auto">b</td><td>1</td>' in found


def test_times_and_sizes_are_in_the_unit_that_suits_them():
    assert [took(value) for value in (9.0, 90.0, 5400.0)] == ["9.0 s", "1.5 min", "1.5 h"]
    assert [size(value) for value in (5e5, 5e9, 5e12)] == ["0.5 MB", "5.0 GB", "5.0 TB"]
