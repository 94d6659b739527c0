"""The report of a study in a real browser: it asks no network, obeys no text, fits a phone, prints, has keys."""

import base64
from dataclasses import replace

import pytest
from made_browser import DESK, HARM, PHONE, assert_asks_nothing, assert_fits, assert_text_stands_out, needs_browser
from made_study import study_facts

from pipeline.study.report.page import page as page_of
from pipeline.study.report.plots import draw

pytestmark = needs_browser

PAPER = 718
"""Width in CSS pixels of A4 between margins of 1 cm."""
OPEN = "document.querySelectorAll('details').forEach(e => { e.open = true })"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study_page")
    facts = study_facts()
    # Drawing takes a second each: those of two tasks show what those of six would.
    pictures = draw(replace(facts, tasks={task: facts.tasks[task] for task in ("asr", "vocoder")}))
    (folder / "index.html").write_bytes(page_of(facts, pictures))
    return folder / "index.html"


@pytest.fixture
def page(path, browser):
    browser.look(width=DESK)
    browser.open(path)
    return browser


def test_the_page_asks_for_nothing_but_itself(page):
    assert_asks_nothing(page, "data:image/png;base64,")


def test_names_of_a_study_are_text_and_no_elements(page):
    assert page.run("document.title") == "Study: small"
    assert page.run("document.querySelectorAll('script, iframe, object, form, link, [onerror]').length") == 0
    assert page.run("[...document.images].every(image => image.complete && image.naturalWidth > 300)")
    assert page.run("document.images.length") == 7
    assert page.run(f"document.body.textContent.split({HARM!r}).length") == 3


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("folds", ["closed", "open"])
def test_nothing_is_wider_than_the_window_but_what_scrolls_by_itself(page, width, folds):
    if folds == "open":
        page.run(OPEN)
    assert_fits(page, width)
    assert page.run(
        "[...document.querySelectorAll('p, li, td, th, a, summary, pre')]"
        ".every(e => parseFloat(getComputedStyle(e).fontSize) >= 14)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page, scheme):
    page.run(OPEN)
    assert_text_stands_out(page, scheme)


def test_every_key_stop_can_be_seen_and_tables_are_scrolled_by_keys(page):
    page.look(width=PHONE)
    page.run("window.scrollTo(0, 0)")
    seen = "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
    stops, scrolled = page.run(f"{seen}.length"), 0
    reached = set()
    for number in range(stops):
        page.press("Tab", 9)
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
        reached.add(page.run(f"{seen}.indexOf(document.activeElement)"))
        place = "document.activeElement.getBoundingClientRect()"
        assert page.run(f"{place}.top < innerHeight && {place}.bottom > 0")
        # One in five: each takes frames of scrolling.
        if number % 5 == 0 and page.run("document.activeElement.scrollWidth > document.activeElement.clientWidth + 1"):
            page.press("ArrowRight", 39)
            assert page.comes("document.activeElement.scrollLeft > 0")
            scrolled += 1
    assert reached == set(range(stops))
    assert scrolled > 3


def test_what_is_folded_opens_by_a_key(page):
    assert page.run("[...document.querySelectorAll('details')].every(e => !e.open)")
    page.run("document.querySelector('summary').focus()")
    page.press(" ", 32)
    assert page.comes("document.querySelector('details').open")
    assert page.run("document.querySelector('details table').checkVisibility()")


def test_contents_lead_to_their_places(page):
    page.look(width=PHONE, height=400)
    for number in range(page.run("document.querySelectorAll('nav a').length")):
        page.run(f"document.querySelectorAll('nav a')[{number}].focus()")
        page.press("Enter", 13)
        anchor = page.run(f"document.querySelectorAll('nav a')[{number}].hash")
        target = f"document.querySelector('{anchor}').getBoundingClientRect().top"
        assert page.comes(f"location.hash === '{anchor}' && {target} > -1 && {target} < 400")
        assert page.run(f"document.querySelector('{anchor}').tagName") == "H2"


def test_everything_is_on_paper_also_what_is_folded(page):
    page.look(width=PAPER, media="print")
    right = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"
    assert page.run(right) <= PAPER
    assert page.run("[...document.querySelectorAll('details table, details pre')].every(e => e.checkVisibility())")
    assert page.run("[...document.querySelectorAll('details table, details pre')]"
                    ".every(e => e.getBoundingClientRect().height > 10)")  # fmt: skip
    # A page that looks like a screen would be printed as one.
    page.look(width=DESK, media="print")
    closed = printed(page)
    assert closed >= 20
    page.run(OPEN)
    assert printed(page) == closed


def printed(page):
    """Print the page, and count the sheets."""
    data = base64.b64decode(page.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert data.startswith(b"%PDF-")
    return data.count(b"/Type /Page\n")


def test_headings_pictures_and_tables_have_names(page):
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("[...document.images].every(image => image.alt.length > 20)")
    assert page.run("[...document.querySelectorAll('table')].every(e => e.caption && e.querySelector('th[scope=col]'))")
    names = page.run("[...document.querySelectorAll('[role=region]')].map(e => e.getAttribute('aria-label'))")
    assert len(set(names)) == len(names) > 50
