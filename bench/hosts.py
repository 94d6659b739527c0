"""Several hosts on one machine: network namespaces joined by a bridge, each with a Ray node of its own. Needs root.

Each host has an address, a loopback device and a temporary folder of its own; files are shared, as on a cluster with a
network disk. A host is lost by killing everything that runs in its namespace.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.measuring import ROOT

PREFIX = "strata"
NETWORK = "10.213.77"
BIN = Path(sys.executable).parent


class Host:
    """A network namespace with processes.

    Args:
        name: As the walkthrough shows it, at most 8 characters.
        number: Last part of its address.
        environment: Of its processes.
        folder: Where its nodes keep their files and logs.
    """

    def __init__(self, name: str, number: int, environment: Mapping[str, str], folder: Path) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self._space, self._wire = f"{PREFIX}-{name}", f"{PREFIX[:2]}{number}"
        self._environment = {**os.environ, **environment}
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{name}.log"
        self._servers: list[subprocess.Popen[bytes]] = []
        for command in (
            f"ip netns add {self._space}",
            f"ip link add {self._wire} type veth peer name eth0 netns {self._space}",
            f"ip link set {self._wire} master {PREFIX} up",
            f"ip -n {self._space} addr add {self.address}/24 dev eth0",
            f"ip -n {self._space} link set eth0 up",
            f"ip -n {self._space} link set lo up",
        ):
            _root(command)

    def run(self, command: str, seconds: float = 600.0) -> tuple[int, str]:
        """Run a command to its end; gives its exit code and what it printed on either stream."""
        done = subprocess.run(
            self._words(command), env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=seconds, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def serve(self, command: str) -> None:
        """Start a command that stays."""
        log = self._log.open("wb")
        self._servers.append(
            subprocess.Popen(
                self._words(command), env=self._environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )  # fmt: skip

    def said(self, words: str) -> bool:
        """Say whether a command that stays has printed something since it was started."""
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        return words in log

    def lose(self) -> None:
        """Kill everything that runs here, at once."""
        while pids := _root(f"ip netns pids {self._space}").split():
            for pid in map(int, pids):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.2)
        for server in self._servers:
            server.wait()
        self._servers.clear()

    def remove(self) -> None:
        """Lose it, and its network."""
        self.lose()
        _root(f"ip netns del {self._space}")

    def _words(self, command: str) -> list[str]:
        return ["ip", "netns", "exec", self._space, *shlex.split(command)]


def make_network() -> None:
    """Make the bridge between the hosts.

    Raises:
        RuntimeError: This user may not.
    """
    _root(f"ip link add {PREFIX} type bridge")
    _root(f"ip addr add {NETWORK}.1/24 dev {PREFIX}")
    _root(f"ip link set {PREFIX} up")


def remove_network() -> None:
    """Take the bridge away."""
    _root(f"ip link del {PREFIX}")


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 300.0) -> float:
    """Wait until something is so; gives the seconds that it took.

    Raises:
        TimeoutError: It did not come.
    """
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what} did not come in {seconds:g} s")
        time.sleep(0.2)
    return time.monotonic() - began


def _root(command: str) -> str:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip() or done.stdout.strip()}; network namespaces need root")
    return done.stdout
