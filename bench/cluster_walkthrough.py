"""The life of a run on a cluster of four hosts, told with what each command printed: lost, drained, late, resubmitted.

    python -m bench.cluster_walkthrough --corpus DATA/LibriSpeech --output walkthrough [--layout librispeech]

Hosts are network namespaces on this machine, so root is needed (``bench/hosts.py``); a head without CPUs, and workers
with one each. A run without trouble comes first. The second one loses a worker, gets one late, has one drained, is
stopped, loses its head, and is submitted again to a new cluster. Both must give the same bytes, or this fails. Writes
``walkthrough.md``; ``docs/walkthrough.md`` is one of these.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from bench.hosts import BIN, NETWORK, Host, make_network, remove_network, wait_for

DASHBOARD = "http://127.0.0.1:8265"
HEAD = f"{NETWORK}.10:6379"
STARTED = "Ray runtime started"
WIDTH = 116
HEADER = """# The life of a run on a cluster

Written by `python -m bench.cluster_walkthrough --corpus DATA/LibriSpeech --output walkthrough`, with what the commands
printed, in part. Four hosts are network namespaces of one machine with two cores, each with a Ray node of its own and
one token for all; they share a disk, as they would share a bucket. `tests/test_cluster_life.py` runs it every night.

"""
STOP_SECONDS = 30
"""Longest time that a stop may take."""
LIMITS = "--object-store-memory 300000000 --disable-usage-stats"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Story:
    """Commands with what they printed, as Markdown.

    Args:
        names: What is written in place of names of this machine.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names, self._parts = names, []

    def tell(self, text: str) -> None:
        """Add a paragraph."""
        print(text, flush=True)
        self._parts.append(text)

    def show(self, host: str, command: str, printed: str, keep: Callable[[str], bool] = bool, last: int = 12) -> None:
        """Add a command and some lines of what it printed."""
        lines = [_plain(line) for line in self._named(_COLOURS.sub("", printed)).splitlines() if keep(line.strip())]
        told = textwrap.wrap(f"{host}$ {self._named(command)}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        body = [*(f"{line} \\" for line in told[:-1]), told[-1], *(line for line in lines[-last:] if line)]
        text = "\n".join(f"    {line}"[:WIDTH] for line in body)
        print(text, flush=True)
        self._parts.append(text)

    def _named(self, text: str) -> str:
        for name, shown in self._names.items():
            text = text.replace(name, shown)
        return text

    def text(self) -> str:
        """Give all of it."""
        return "\n\n".join(self._parts) + "\n"


def _plain(line: str) -> str:
    """Give a line without the frame of a table, and nothing of a line that is only frame, or JSON."""
    if line.startswith("{"):
        return ""
    cells = [cell.strip() for cell in re.split("[\u2500-\u257f]+", line)]
    inner = cells[1:-1] if len(cells) > 2 else cells
    return f"{inner[0]:<16}{' '.join(inner[1:])}".rstrip() if len(inner) > 1 else " ".join(inner).rstrip()


class Walkthrough:
    """The hosts, and the steps.

    Args:
        corpus: Recordings.
        layout: Of the recordings.
        shard_minutes: Audio of a shard; with fewer than 12 shards the run is over before all has happened to it.
        folder: Where runs are written.
        seconds: Longest wait for any step.
    """

    def __init__(self, corpus: Path, layout: str, shard_minutes: float, folder: Path, seconds: float) -> None:
        self.corpus, self.folder, self.seconds = corpus.resolve(), folder.resolve(), seconds
        self.layout, self.shard_minutes = layout, shard_minutes
        # Names of sockets are short, so nodes do not live in the output.
        self.temp = Path(tempfile.mkdtemp(prefix="strata-", dir="/tmp"))
        token = self.temp / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            # Tables that cut no folder's name: it is shown as one that is shared.
            "COLUMNS": "240",
            "OMP_NUM_THREADS": "1",
        }
        self.environment["RAY_ADDRESS"] = ""
        names = {
            str(self.folder): "/shared",
            str(self.corpus): "/shared/LibriSpeech",
            f"{BIN}/": "",
            str(self.temp): "/tmp/ray",
        }
        self.story = Story(names)
        self.hosts: dict[str, Host] = {}

    def host(self, name: str, number: int) -> Host:
        """Make a host, or give the one that there is."""
        if name not in self.hosts:
            self.hosts[name] = Host(name, number, self.environment, self.temp / name)
        return self.hosts[name]

    def start_head(self) -> None:
        """Start a head on its host, and wait until it takes jobs."""
        head = self.host("head", 10)
        command = f"infra/start_head.sh --node-ip-address {head.address} --num-cpus 0 {LIMITS}"
        head.serve(f"{command} --block --temp-dir {self.temp}/h{secrets.token_hex(2)}")
        self.story.show("head", command, "")
        wait_for("the head", lambda: head.said(STARTED))
        wait_for("the head's jobs", lambda: head.run(f"ray job list --address {DASHBOARD}")[0] == 0)

    def start_worker(self, name: str, number: int) -> None:
        """Start a worker, and wait until it has joined."""
        host = self.host(name, number)
        command = f"ray start --address {HEAD} --node-ip-address {host.address} --num-cpus 1 {LIMITS}"
        host.serve(f"{command} --block --temp-dir {self.temp}/{name}{secrets.token_hex(2)}")
        self.story.show(name, command, "")
        wait_for(name, lambda: host.said(STARTED))

    def _nodes(self) -> str:
        """List the nodes that live."""
        head = self.hosts["head"]
        # Ray's state API: of the dashboard, with the token of the environment.
        command = f"ray list nodes --address {DASHBOARD} --filter state=ALIVE --format json"
        code, printed = head.run(command)
        return printed if code == 0 else ""

    def submit(self, name: str, output: str, *, wait: bool) -> None:
        """Submit the run."""
        entry = (
            f"python jobs/run_pipeline.py --corpus {self.corpus} --layout {self.layout} "
            f"--output {self.folder}/{output} "
            f"--encoder encoder-small --layers 2 4 6 --num-clusters 100 --shard-minutes {self.shard_minutes:g} "
            "--num-workers 1 --max-workers 3"
        )
        waiting = "" if wait else "--no-wait "
        command = f"ray job submit --address {DASHBOARD} --submission-id {name} --working-dir . {waiting}-- {entry}"
        code, printed = self.hosts["head"].run(command, self.seconds)
        if code:
            raise RuntimeError(f"{command} ended with {code}:\n{printed[-3000:]}")
        self.story.show("head", command, printed, _of_interest)

    def status(self, output: str) -> None:
        """Show what is done."""
        command = f"python jobs/run_pipeline.py --status --output {self.folder}/{output}"
        self.story.show(
            "head",
            command,
            self.hosts["head"].run(command)[1],
            lambda line: line.lstrip("\u2502 ").startswith(("dataset", "done")),
            last=10,
        )

    def done(self, output: str) -> int:
        """Count the shards of tokens and features that are committed."""
        return sum(
            len(list((self.folder / output / kind / "_commits").glob("*.json"))) for kind in ("features", "tokens")
        )

    def over(self, output: str) -> bool:
        """Say whether the tokens of a run are whole."""
        return (self.folder / output / "tokens" / "_SUCCESS").exists()

    def until(self, output: str, count: int) -> None:
        """Wait until so many shards are committed."""
        wait_for(f"shard {count}", lambda: self.done(output) >= count, self.seconds)

    def encoders(self, name: str) -> int:
        """Count the encoder actors that live on a host."""
        code, printed = self.hosts["head"].run(
            f"ray list actors --address {DASHBOARD} --filter state=ALIVE --format json"
        )
        node = self.node_id(self.hosts[name].address)
        actors = json.loads(printed[printed.index("[") :]) if code == 0 and "[" in printed else []
        return sum(actor["node_id"] == node and "ShardWorker" in actor["class_name"] for actor in actors)

    def node_id(self, address: str) -> str:
        """Give the id of the node with an address."""
        return re.findall(rf'"node_id": "(\w+)",\s+"node_ip": "{re.escape(address)}"', self._nodes())[0]


def _of_interest(line: str) -> bool:
    return any(word in line for word in ("submitted successfully", "succeeded", " units, ")) or "\u2502 audio" in line


def undisturbed(walk: Walkthrough) -> int:
    """Run once without trouble; gives its shards."""
    walk.story.tell(
        "## A run without trouble\n\nA head without CPUs, two workers with one CPU each, one token for all."
    )
    walk.start_head()
    walk.start_worker("worker-1", 11)
    walk.start_worker("worker-2", 12)
    walk.submit("calm", "calm", wait=True)
    return walk.done("calm")


def disturbed(walk: Walkthrough, shards: int) -> None:
    """Run again, with everything that happens to clusters."""
    story, head = walk.story, walk.hosts["head"]
    story.tell("## The same run, with trouble")
    walk.submit("first", "troubled", wait=False)
    walk.until("troubled", shards // 6)
    walk.status("troubled")
    story.tell("Worker 1 is lost, as a spot machine without notice: everything on it is killed.")
    walk.hosts["worker-1"].lose()
    story.tell("Another one joins late. The job said `--max-workers 3`, so it is used.")
    walk.start_worker("worker-3", 13)
    before = walk.done("troubled")
    wait_for("an encoder on worker 3", lambda: walk.encoders("worker-3") > 0 or walk.over("troubled"), walk.seconds)
    if walk.over("troubled"):
        raise RuntimeError("the run was over before worker 3 had an encoder; give a larger corpus")
    walk.until("troubled", before + 3)
    command = f"ray list actors --address {DASHBOARD} --filter state=ALIVE --format json"
    counts = ", ".join(f"{name} {walk.encoders(name)}" for name in ("worker-2", "worker-3"))
    story.show("head", f"{command} | grep ShardWorker", f"encoders by node: {counts}")
    story.tell("Worker 2 is drained, as before an announced end: no new work goes there.")
    address = walk.hosts["worker-2"].address
    command = (
        f"ray drain-node --address {HEAD} --node-id {walk.node_id(address)} --reason DRAIN_NODE_REASON_PREEMPTION "
        "--reason-message spot --deadline-remaining-seconds 30"
    )
    story.show("head", command, head.run(command)[1])
    before = walk.done("troubled")
    time.sleep(30)
    walk.hosts["worker-2"].lose()
    walk.until("troubled", min(shards - 2, max(before + 2, shards // 2 + 4)))
    walk.status("troubled")
    story.tell("The job is stopped.")
    began = time.monotonic()
    command = f"ray job stop --address {DASHBOARD} first"
    story.show("head", command, head.run(command)[1], lambda line: "stop" in line.lower())
    took = time.monotonic() - began
    if took > STOP_SECONDS:
        raise RuntimeError(f"the job took {took:.0f} s to stop")
    story.tell(f"It took {took:.0f} s. What is committed stays:")
    walk.status("troubled")
    story.tell(
        "The head is lost too, with all that it knew of jobs. A new one starts, workers join it, and the run is "
        "submitted again."
    )
    for host in walk.hosts.values():
        host.lose()
    walk.start_head()
    walk.start_worker("worker-3", 13)
    walk.start_worker("worker-1", 11)
    walk.submit("second", "troubled", wait=True)


def compare(walk: Walkthrough) -> None:
    """Show that both runs have the same bytes.

    Raises:
        RuntimeError: They have not.
    """
    walk.story.tell("## The same bytes")
    for kind in ("tokens", "codebooks"):
        command = (
            f"python jobs/verify_dataset.py --dataset {walk.folder}/calm/{kind} --compare {walk.folder}/troubled/{kind}"
        )
        code, printed = walk.hosts["head"].run(command)
        walk.story.show("head", command, printed, lambda line: not line.startswith("{"), last=8)
        if code:
            raise RuntimeError(f"{kind} differ:\n{printed}")


def main() -> None:
    """Walk, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layout", default="librispeech")
    parser.add_argument("--shard-minutes", type=float, default=2.0)
    parser.add_argument("--limit-seconds", type=float, default=900.0, help="longest wait for a step")
    given = parser.parse_args()
    walk = Walkthrough(given.corpus, given.layout, given.shard_minutes, given.output, given.limit_seconds)
    make_network()
    try:
        shards = undisturbed(walk)
        disturbed(walk, shards)
        compare(walk)
    finally:
        for host in walk.hosts.values():
            host.remove()
        remove_network()
        for log in walk.temp.glob("*/*.log"):
            shutil.copy(log, given.output)
        shutil.rmtree(walk.temp, ignore_errors=True)
    (given.output / "walkthrough.md").write_text(HEADER + walk.story.text())


if __name__ == "__main__":
    main()
