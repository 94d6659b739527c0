from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.cards.text import escaped, plain

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=50).filter(lambda text: plain(text)))
def test_an_escaped_text_shows_as_itself(text):
    table = MARKDOWN.parse(f"| x |\n| --- |\n| {escaped(text)} |")
    cell = [token for token in table if token.type == "inline"][-1]
    assert "".join(child.content for child in cell.children) == plain(text)


def test_controls_and_overrides_of_direction_are_not_shown():
    assert plain("a\x00b\u202ec\nd\ud800e\u200bf") == "a b c d e f"
    assert len(plain("x" * 1000)) == 200
