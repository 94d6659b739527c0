"""The browser that tests of pages look through."""

import pytest
from made_browser import Browser, find_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield found
    found.close()
