"""A headless Chromium for the tests of pages, where one is installed; spoken to over pipes, without a library.

On Debian: apt install chromium-headless-shell. STRATA_TEST_BROWSER names one elsewhere.
"""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Ratio of luminances as WCAG 2.2 defines it, of every element with text of its own, against what lies behind it.
CONTRAST = """
(() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [.2126, .7152, .0722][place], 0)
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number)
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor)
      if (found.length === 3 || found[3] === 1) return found
    }
    return [NaN, NaN, NaN]
  }
  const written = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
  const ratios = [...document.body.querySelectorAll('*')].filter(written).map(element => {
    const pair = [parse(getComputedStyle(element).color), behind(element)].map(light).sort((a, b) => b - a)
    return (pair[0] + .05) / (pair[1] + .05)
  })
  return Math.min(...ratios)
})()
"""


def find_browser():
    """Give the path of a Chromium; None where none is installed."""
    given = os.environ.get("STRATA_TEST_BROWSER")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(
    find_browser() is None,
    reason="no Chromium here: apt install chromium-headless-shell, or name one in STRATA_TEST_BROWSER",
)

HARM = "<script>document.title='taken'</script><img src=http://127.0.0.1:9/x.png onerror=\"document.title='taken'\">"
PHONE, DESK = 360, 1200
"""Widths in CSS pixels."""


def assert_text_stands_out(page, scheme):
    """See that a page follows the scheme, light or dark, and that its text can be read in it."""
    page.look(width=DESK, scheme=scheme)
    assert (page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.run(CONTRAST) >= 4.5


def assert_asks_nothing(page, within="data:"):
    """See that a page that was opened asked for nothing but itself and URLs that begin so, and told of no error."""
    asked = [found["request"]["url"] for found in page.told("Network.requestWillBeSent")]
    assert asked[0].startswith("file://")
    assert all(url.startswith(within) for url in asked[1:])
    assert page.told("Log.entryAdded") == []
    assert page.told("Runtime.exceptionThrown") == []


def assert_fits(page, width):
    """See that nothing is wider than a window of this width but what scrolls by itself."""
    page.look(width=width)
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    wider = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.wide') && e.scrollWidth > innerWidth)"
    assert page.run(f"{wider}.length") == 0


class Browser:
    """One page of a browser. Close it; ``heard`` holds what it told without being asked."""

    def __init__(self, path, folder):
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        command = [path, "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-gpu"]
        # Without its sandbox where it runs as root, or it would not start; the pages are ours.
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        # The protocol reads from descriptor 3 and writes to 4.
        moved = f'exec "$@" 3<&{read_there} 4>&{write_there}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", moved, "browser", *command],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=(Path(folder) / "log").open("w"),
        )
        os.close(read_there)
        os.close(write_there)
        self._to, self._from = os.fdopen(write_here, "wb", buffering=0), os.fdopen(read_here, "rb")
        self._numbers, self._session, self.heard, self._data = itertools.count(1), None, [], bytearray()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """Send a command of the DevTools protocol and give its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != number:
            self.heard.append(found)
        assert "error" not in found, found["error"]
        return found["result"]

    def _next(self):
        while b"\0" not in self._data:
            read = self._from.read1(1 << 16)
            assert read, "the browser ended"
            self._data += read
        message, _, self._data = self._data.partition(b"\0")
        return json.loads(message)

    def open(self, path):
        """Load a page and wait until it is there."""
        self.heard.clear()
        self.ask("Page.navigate", url=Path(path).as_uri())
        while not any(found.get("method") == "Page.loadEventFired" for found in self.heard):
            self.heard.append(self._next())

    def told(self, method):
        """Give the events of a kind since the page was opened."""
        self.run("0")
        return [found["params"] for found in self.heard if found.get("method") == method]

    def run(self, script):
        """Give the value of JavaScript of ours in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def comes(self, condition, frames=120):
        """Wait for a condition, as of scrolling that takes a few frames; says whether it came."""
        look = f"const look = () => ({condition}) || left-- < 1 ? done() : requestAnimationFrame(look)"
        script = f"new Promise(done => {{ let left = {frames}; {look}; look() }})"
        self.ask("Runtime.evaluate", expression=script, awaitPromise=True)
        return bool(self.run(condition))

    def look(self, *, width, height=800, scheme="light", media="screen"):
        """Set how wide the window is, whether the person likes it dark, and screen or print."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key, code):
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def close(self):
        """End it."""
        self._to.close()
        self._process.terminate()
        self._process.wait(20)
        self._from.close()
