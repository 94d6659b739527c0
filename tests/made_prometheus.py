"""Debian's Prometheus and its promtool for the tests of monitoring, where they are installed.

On Debian: `.ci/run` installs both without the service that the package starts.
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus and promtool here; .ci/run says how they are installed on Debian",
)


def promtool(*arguments):
    """Run promtool; gives its exit code and its words."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """A Prometheus on loopback with a configuration and a folder of its own."""

    def __init__(self, config, folder):
        self.began = time.time()
        self._url = f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        self._log = (folder / "log").open("w")
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={self._url.removeprefix('http://')}"]
        self._server = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{self._url}/-/ready", timeout=2).close()
                return
            except OSError:
                assert self._server.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        raise AssertionError((folder / "log").read_text()[-2000:])

    def ask(self, path, **parameters):
        """Ask its API; gives the data, or raises what it says of a wrong query."""
        try:
            with urllib.request.urlopen(
                f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None

    def series(self, query, step=1.0):
        """Give what a query found from its start to now: labels and values of each series."""
        found = self.ask("query_range", query=query, start=self.began, end=time.time(), step=step)["result"]
        return [(each["metric"], [float(value) for _, value in each["values"]]) for each in found]

    def close(self):
        self._server.terminate()
        self._server.wait(30)
        self._log.close()
