"""What a worker does with a trial: it trains, evaluates, and writes down how long that took.

Restart: a training goes on from its checkpoint, and a finished trial is not run again. Nothing here needs Ray.
"""

import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pipeline.errors import PipelineError
from pipeline.evaluation.stage import evaluate
from pipeline.redaction import redact
from pipeline.status import TRIAL_DONE
from pipeline.store.storage import open_store
from pipeline.study.planning.trials import Trial
from pipeline.study.ran import FAILED, STARTS, Ran, read_ran, starts_of
from pipeline.study.speech import hear
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task
from pipeline.vocoder.training.stage import train_vocoder

logger = logging.getLogger(__name__)


def run_trial(_: Any, trial: Trial) -> Ran:
    """Train and evaluate, as far as it is not done. What a trial raises is told, and ends no other trial."""
    began, store = time.monotonic(), open_store(trial.folder)
    if (done := read_ran(store)) is not None:
        return done
    starts = starts_of(store) + 1
    store.write(STARTS, json.dumps(starts).encode())
    failed = None
    with first_step() as seen:
        try:
            _make(trial)
        except Exception as error:
            failed = redact(f"{type(error).__name__}: {error}")
            # What is not ours has no sentence that says where it is from.
            known = isinstance(error, PipelineError)
            logger.warning("%s failed: %s", trial.name, failed if known else redact(traceback.format_exc()))
    ran = Ran(
        key=trial.key,
        name=trial.name,
        seconds=time.monotonic() - began,
        overhead_seconds=seen[0] - began if seen else 0.0,
        starts=starts,
        failed=failed,
    )
    store.write(FAILED if failed else TRIAL_DONE, json.dumps(asdict(ran)).encode())
    return ran


def _make(trial: Trial) -> None:
    if isinstance(trial.training, TrainTaskConfig):
        train_task(trial.training)
    else:
        train_vocoder(trial.training)
    evaluate(trial.evaluation)
    if trial.speech is not None:
        hear(trial.speech)


@contextmanager
def first_step() -> Iterator[list[float]]:
    """Note when an optimizer of this process makes its first step, by ``time.monotonic``; nothing where none does."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    seen: list[float] = []

    def note(*_: Any) -> None:
        if not seen:
            seen.append(time.monotonic())

    hook = register_optimizer_step_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
