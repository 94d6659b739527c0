"""Stages in processes that die at a named instant: a real SIGKILL, without Ray.

Each process is forked from a server that has imported everything, so that it costs a third of a second.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.faults import VARIABLE

KILLED = -signal.SIGKILL
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "transformers.models.hubert.modeling_hubert",
        "pipeline.export.stage",
        "pipeline.features.stage",
        "pipeline.features.makers",
        "pipeline.kmeans.fit.stage",
        "pipeline.tokens.stage",
        "pipeline.tokens.makers",
        "tokenizers",
        "pandas",
        "pyarrow.dataset",
        "pipeline.work.here",
        "pytest",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code.
        message: The error of ours that ended its stage, None where there was none or the process was killed.
        announced: Units whose making was begun, in that order; each attempt counts.
    """

    code: int | None
    message: str | None
    announced: list[str]


def in_child(stage: Callable, config: object, faults=(), *, before: Callable[[], None] | None = None) -> Ended:
    """Run a stage in a process of its own.

    Args:
        stage: A function of one config.
        config: Its settings.
        faults: See ``pipeline.faults``.
        before: Called in the process before the stage; picklable.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "announced"
        log.touch()
        logged = {"point": "after_announce_before_data", "action": "log", "path": str(log)}
        # The server has the environment of its start; a store in S3 is found by this process's.
        environment = {**os.environ, VARIABLE: json.dumps([logged, *faults])}
        process = _CONTEXT.Process(target=_run, args=(sender, stage, config, environment, before))
        process.start()
        sender.close()
        message = None
        with contextlib.suppress(EOFError):
            message = receiver.recv()
        process.join(120)
        return Ended(
            code=process.exitcode,
            message=message,
            announced=[line.split()[1] for line in log.read_text().splitlines()],
        )


def _run(sender, stage, config, environment, before):
    os.environ.update(environment)
    if before is not None:
        before()
    message = None
    try:
        stage(config)
    except PipelineError as error:
        message = f"{type(error).__name__}: {error}"
    sender.send(message)


def one_after_the_other(unit):
    """Give faults that hold back the units after one, as if units were made one after the other.

    In one process several are made at the same time, and a unit that is to be killed might be committed already.
    """
    name, _, number = unit.rpartition("-")
    later = [f"{name}-{following:05d}" for following in range(int(number) + 1, int(number) + 40)]
    # Shards for validation come after those for training.
    later += ["valid-"] if name == "train" else []
    return [{"point": "before_load", "match": match, "action": "hang"} for match in later]
