"""The page of a vocoder in a real browser: it plays, asks no network, obeys no text, fits a phone, has keys."""

import numpy as np
import pytest
from made_browser import DESK, HARM, PHONE, assert_asks_nothing, assert_fits, assert_text_stands_out, needs_browser
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.vocoder.training.stage import train_vocoder

pytestmark = needs_browser

CONDITIONS = ("original", "griffin_lim", "all", *COLUMNS, "lower", "upper")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech_page")
    seconds = np.random.default_rng(3).uniform(0.5, 1.4, 16)
    labels = {f"u{number:03d}": {"text": HARM + "w" * 150} for number in range(16)}
    write_corpus_of_tones(root, seconds, columns=COLUMNS, labels=labels)
    train_vocoder(vocoder_config(root, root / "vocoder", num_steps=2, test_fraction=0.3))
    inputs = {name: str(root / name) for name in ("vocoder", "tokens", "manifest")}
    judged = {"judges": ("stft", "log_mel", "mcd"), "examples": 2}
    evaluate(EvaluateConfig.of(output=str(root / "out"), **inputs, **judged))
    return root / "out" / "index.html"


@pytest.fixture
def page(path, browser):
    browser.look(width=DESK)
    browser.open(path)
    return browser


def test_the_page_asks_for_nothing_but_itself(page):
    assert_asks_nothing(page)


def test_every_recording_can_be_played_and_has_a_name(page):
    players = page.run("document.querySelectorAll('audio').length")
    assert players == 2 * len(CONDITIONS)
    names = page.run("[...document.querySelectorAll('audio')].map(e => e.getAttribute('aria-label'))")
    assert len(set(names)) == players
    loaded = "[...document.querySelectorAll('audio')].every(e => e.readyState >= 1 && e.duration > 0.4 && !e.error)"
    page.run("document.querySelectorAll('audio').forEach(e => { e.preload = 'metadata'; e.load() })")
    assert page.comes(loaded, frames=600)


def test_text_of_the_corpus_is_text_and_no_element(page):
    assert page.run("document.title") == "Speech from tokens"
    assert page.run("document.querySelectorAll('script, iframe, object, form, link, [onerror]').length") == 0
    assert page.run(f"document.body.textContent.split({HARM!r}).length") == 3
    assert page.run("[...document.images].every(image => image.complete && image.naturalWidth > 300)")
    assert page.run("document.images.length") == 2


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_wider_than_the_window_but_what_scrolls_by_itself(page, width):
    assert_fits(page, width)
    inside = "[...document.querySelectorAll('audio')].every(e => e.getBoundingClientRect().right <= innerWidth)"
    assert page.run(inside)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page, scheme):
    assert_text_stands_out(page, scheme)


def test_players_and_pictures_are_reached_by_keyboard(page):
    page.look(width=PHONE)
    page.run("window.scrollTo(0, 0)")
    reached = set()
    for _ in range(200):
        page.press("Tab", 9)
        reached.add(page.run("document.activeElement.tagName + (document.activeElement.ariaLabel || '')"))
    names = page.run("[...document.querySelectorAll('audio, [role=region]')].map(e => e.tagName + e.ariaLabel)")
    assert set(names) <= reached


def test_headings_pictures_and_tables_have_names(page):
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert page.run("[...document.images].every(image => image.alt.length > 20)")
    assert page.run("[...document.querySelectorAll('table')].every(e => e.caption && e.querySelector('th[scope=col]'))")
