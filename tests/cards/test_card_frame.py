import json
import subprocess
import sys

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy.stats import entropy as scipy_entropy

from pipeline.cards.entropy import entropy
from pipeline.cards.facts import card_bytes
from pipeline.cards.markdown import bullets, page, share, table
from pipeline.cards.plots import Plot, draw_all, section, wanted

LINE = Plot(shows="A line", draw=lambda axes, card: axes.plot(card), has_numbers=bool)
BARS = Plot(
    shows="Bars", draw=lambda axes, card: axes.bar(range(len(card)), card), has_numbers=lambda card: len(card) > 2
)
PLOTS = {"line": LINE, "bars": BARS}


def test_facts_that_differ_past_nine_digits_have_the_same_bytes():
    facts = {"b": 1 / 3, "a": {"z": [1e10 + 0.125], "y": (2, None)}}
    others = {"a": {"y": [2, None], "z": (1e10 + 0.25,)}, "b": 1 / 3 + 1e-12}
    assert card_bytes(facts) == card_bytes(others)
    assert card_bytes(facts) != card_bytes(facts | {"b": 1 / 3 + 1e-8})
    assert json.loads(card_bytes(facts)) == {"a": {"y": [2, None], "z": [1e10]}, "b": 0.333333333}


def test_integers_of_a_card_are_not_rounded():
    assert json.loads(card_bytes({"n": 2**53 + 1, "yes": True})) == {"n": 2**53 + 1, "yes": True}


def test_a_page_leaves_empty_sections_out():
    assert page(["# A", "", bullets(["b", "c"])]) == "# A\n\n- b\n- c\n"


def test_a_bar_in_a_cell_begins_no_further_column():
    parsed = MarkdownIt("commonmark").enable("table").parse(table(("x", "y"), [("a|b", share(0.12345))]))
    assert [token.content for token in parsed if token.type == "inline"] == ["x", "y", "a|b", "12.35 %"]


def test_only_plots_that_have_numbers_are_drawn_and_linked():
    assert wanted(PLOTS, [1, 2]) == ["line"]
    drawn = draw_all(PLOTS, [1, 2], lambda plot: plot.shows)
    assert list(drawn) == ["line"]
    assert drawn["line"].startswith(b"\x89PNG\r\n")
    text = section(PLOTS, [1, 2], drawn=True, file=lambda name: f"x/{name}.png", again="try again")
    assert text == "## Plots\n\n![A line](x/line.png)"
    assert section(PLOTS, [], drawn=True, file=str, again="try again") == ""
    assert "try again" in section(PLOTS, [1], drawn=False, file=str, again="try again")


def test_drawing_leaves_the_global_state_of_pyplot_alone():
    code = (
        "import sys; from pipeline.cards.plots import Plot, draw_all;"
        "plot = Plot(shows='x', draw=lambda axes, card: axes.plot(card), has_numbers=bool);"
        "draw_all({'x': plot}, [1, 2], lambda plot: plot.shows);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("counts", [[1], [3, 3], [0, 7, 1, 0], [[1, 2], [0, 10**12]]])
def test_entropy_is_that_of_the_counts(counts):
    found = np.array(counts)
    assert entropy(found) == pytest.approx(scipy_entropy(found.ravel(), base=2), abs=1e-12)


def test_nothing_has_no_entropy():
    assert entropy(np.zeros(3, np.int64)) == entropy(np.zeros(0, np.int64)) == 0
