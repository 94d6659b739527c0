"""Trouble from outside for running stages: kills of their children, a corpus that is away, a bucket that refuses."""

import http.client
import http.server
import os
import random
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGBUS)
REFUSALS = (
    *((403, code) for code in ("ExpiredToken", "RequestTimeTooSkewed", "InvalidAccessKeyId", "AccessDenied")),
    *((400, "ExpiredToken"), (404, "NoSuchKey"), (503, "SlowDown")),
)


def descendants(pid):
    """Give the processes below one, youngest last."""
    found, waiting = [], [pid]
    while waiting:
        try:
            for task in os.scandir(f"/proc/{waiting.pop()}/task"):
                waiting += [int(child) for child in Path(task.path, "children").read_text().split()]
        except OSError:
            continue
        found = [*found, *(child for child in waiting if child not in found)]
    return found


def says(pid, words):
    """Whether a process was started with these words."""
    try:
        return words in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def has_open(pid, folder):
    """Name a file below a folder that a process has open; None where it has none."""
    try:
        opened = [os.readlink(link.path) for link in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return None
    return next((name for name in opened if name.startswith(f"{folder}/")), None)


class Trouble:
    """A thread that makes trouble while a block runs; ``count`` says how often it did."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _work(self):
        while not self._ended.wait(self.pause()):
            self.act()

    def pause(self):
        """Give the seconds until the next look."""
        return 0.002


class KillsDecoders(Trouble):
    """Kills decode children below this process while they have a recording open, in a share of the times."""

    def __init__(self, seed, corpus, share=0.5):
        super().__init__(seed)
        self._corpus, self._share = str(corpus), share
        self._due = {}

    def act(self):
        now = time.monotonic()
        for pid in descendants(os.getpid()):
            file = says(pid, "pipeline.audio.decode_child") and has_open(pid, self._corpus)
            if not file:
                continue
            if (pid, file) not in self._due:
                late = now + self.chance.uniform(0, 0.01)
                self._due[pid, file] = late if self.chance.random() < self._share else float("inf")
            if self._due[pid, file] <= now:
                self._due[pid, file] = float("inf")
                os.kill(pid, self.chance.choice(SIGNALS))
                self.count += 1


class KillsCareful(Trouble):
    """Kills careful children below this process, at a random moment of their life; most of them."""

    def __init__(self, seed, longest, share=0.6):
        super().__init__(seed)
        self._longest, self._share = longest, share
        self._due = {}

    def act(self):
        now = time.monotonic()
        for pid in descendants(os.getpid()):
            if pid not in self._due and says(pid, "multiprocessing.spawn"):
                late = now + self.chance.uniform(0, self._longest)
                self._due[pid] = late if self.chance.random() < self._share else float("inf")
            if self._due.get(pid, float("inf")) < now:
                self._due[pid] = float("inf")
                os.kill(pid, self.chance.choice(SIGNALS))
                self.count += 1


class TakesAway(Trouble):
    """Renames a folder away and back, or leaves an empty one as an unmounted share does."""

    def __init__(self, seed, folder, between, away):
        super().__init__(seed)
        self._folder, self._between, self._away = Path(folder), between, away

    def pause(self):
        return self.chance.uniform(0, self._between)

    def act(self):
        hidden, empty = self._folder.with_name("hidden"), self.chance.random() < 0.5
        self._folder.rename(hidden)
        if empty:
            self._folder.mkdir()
        self.count += 1
        time.sleep(self.chance.uniform(0, self._away))
        if empty:
            self._folder.rmdir()
        hidden.rename(self._folder)


class Refusing:
    """A proxy before an S3 server that refuses a share of the requests; ``count`` says how many it did."""

    def __init__(self, address, seed, share):
        self.count, self.share = 0, share
        target, chance, proxy = urlsplit(address), random.Random(seed), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if chance.random() < proxy.share:
                    proxy.count += 1
                    status, code = chance.choice(REFUSALS)
                    text = f"<Error><Code>{code}</Code><Message>made</Message></Error>".encode()
                    return self._answer(status, {}, text)
                server = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
                server.request(self.command, self.path, headers=dict(self.headers))
                found = server.getresponse()
                kept = {name: value for name, value in found.getheaders() if name.lower() not in _HOP}
                length = found.getheader("Content-Length")
                return self._answer(found.status, kept, found.read(), length)

            def _answer(self, status, headers, body, length=None):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


_HOP = ("content-length", "transfer-encoding", "connection", "date", "server")
