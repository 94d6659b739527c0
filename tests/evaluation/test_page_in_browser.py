"""The page of an evaluation in a real browser: it asks no network, obeys no label, fits a phone, prints, has keys."""

import base64

import pytest
from made_browser import DESK, HARM, PHONE, assert_asks_nothing, assert_fits, assert_text_stands_out, needs_browser
from made_tasks import task_config, write_task_corpus

from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.tasks.stage import train_task

pytestmark = needs_browser

LONG = "w" * 150
TASKS = ("er", "asr")
PAPER = 718
"""Width in CSS pixels of A4 between margins of 1 cm."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of both kinds, whose ids, labels and speakers are markup, or one long word."""
    root = tmp_path_factory.mktemp("pages")

    def harmful(labels):
        emotion = HARM if labels["emotion"] == "high" else LONG
        return labels | {"emotion": emotion, "speaker": HARM + labels["speaker"]}

    write_task_corpus(root, change=harmful, rename=lambda name: f"{name}{HARM}{LONG}")
    for task in TASKS:
        tested = {"test_speakers": (HARM + "s1",)} if task == "er" else {}
        train_task(task_config(root, root / task, task, **tested))
        evaluate(EvaluateConfig.of(model=str(root / task), output=str(root / f"{task}_test"), examples=2))
    return {task: root / f"{task}_test" / "index.html" for task in TASKS}


@pytest.fixture(params=TASKS)
def page(request, pages, browser):
    browser.look(width=DESK)
    browser.open(pages[request.param])
    return browser


def test_the_page_asks_for_nothing_but_itself(page):
    assert_asks_nothing(page, "data:image/png;base64,")


def test_labels_and_ids_are_text_and_no_elements(page):
    assert page.run("document.title").startswith("Evaluation:")
    assert page.run("document.querySelectorAll('script, iframe, object, form, link, [onerror]').length") == 0
    assert page.run("[...document.images].every(image => image.complete && image.naturalWidth > 300)")
    assert page.run("document.images.length") > 0
    assert page.run("document.querySelector('h3').textContent").startswith("u0")
    assert page.run(f"document.querySelector('h3').textContent.includes({HARM!r})")
    assert page.run(f"document.body.textContent.split({HARM!r}).length") > 5


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_wider_than_the_window_but_what_scrolls_by_itself(page, width):
    assert_fits(page, width)
    scrolled = page.run("[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length")
    assert width == DESK or scrolled > 0
    assert page.run(
        "[...document.querySelectorAll('p, td, th, a')].every(e => parseFloat(getComputedStyle(e).fontSize) >= 14)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page, scheme):
    assert_text_stands_out(page, scheme)


def test_every_key_stop_can_be_seen_and_what_is_wider_than_the_window_is_scrolled_by_keys(page):
    page.look(width=PHONE)
    page.run("window.scrollTo(0, 0)")
    stops = page.run("document.querySelectorAll('a, [tabindex=\"0\"]').length")
    names, scrolled = [], 0
    for _ in range(stops):
        page.press("Tab", 9)
        names.append(
            page.run("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        )
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
        place = "document.activeElement.getBoundingClientRect()"
        assert page.run(f"{place}.top < innerHeight && {place}.bottom > 0")
        if page.run("document.activeElement.scrollWidth > document.activeElement.clientWidth + 1"):
            page.press("ArrowRight", 39)
            scrolled += page.comes("document.activeElement.scrollLeft > 0")
    assert names[:3] == ["Metrics", "Layer use", "Weights over time"]
    assert len(names) == stops
    assert all(names)
    assert scrolled > 0
    assert scrolled == page.run(
        "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )


def test_contents_lead_to_their_places(page):
    page.look(width=PHONE, height=400)
    for number in range(3):
        page.run(f"document.querySelectorAll('nav a')[{number}].focus()")
        page.press("Enter", 13)
        target = "document.querySelector(location.hash).getBoundingClientRect().top"
        assert page.comes(f"location.hash && {target} > -1 && {target} < 400")
        assert page.run("document.querySelector(location.hash).tagName") == "H2"


def test_everything_is_on_paper(page):
    page.look(width=PAPER, media="print")
    # What is cut off at the right edge could be read nowhere.
    assert (
        page.run("Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))")
        <= PAPER
    )
    assert page.run("[...document.querySelectorAll('.wide')].every(e => getComputedStyle(e).overflowX === 'visible')")
    page.look(width=DESK)
    data = base64.b64decode(page.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") >= 2


def test_headings_pictures_and_tables_have_names(page):
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("[...document.images].every(image => image.alt.length > 20)")
    assert page.run("[...document.querySelectorAll('table')].every(e => e.caption && e.querySelector('th[scope=col]'))")
    assert page.run("[...document.querySelectorAll('[role=region]')].every(e => e.getAttribute('aria-label'))")
