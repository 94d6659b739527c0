"""The state of a dataset, of every dataset of a run, or of a study; starts no Ray and imports no torch."""

import json
from itertools import count

from pipeline.errors import DatasetError
from pipeline.store.completion import Status, nested, status
from pipeline.store.dataset import PLAN, Dataset
from pipeline.store.storage import join, open_store

STAGES = ("manifest", "features", "codebooks", "tokens")
"""Datasets of a run of run_pipeline, in order."""

ITERATION = ("sample", "codebooks", "tokens", "encoder")
"""Datasets of an iteration of run_pretraining."""


STUDY_FOLDERS = "_folders.json"
"""The folders of what a study's trials share (``parts``) and of its trials (``trials``), within it."""
TRIAL_DONE = "trial.json"
"""What the folder of a trial holds when it is done."""


def study_status(output: str) -> list[Status]:
    """Give the state of what the trials of a study share, and of its trials together."""
    store = open_store(output)
    folders = json.loads(store.read(STUDY_FOLDERS))
    begun = [folder for folder in folders["parts"] if store.exists(f"{folder}/{PLAN}")]
    found = [status(Dataset.open(join(output, folder), finished=False)) for folder in begun]
    trials = folders["trials"]
    done = sum(store.exists(f"{folder}/{TRIAL_DONE}") for folder in trials)
    together = Status(
        uri=join(output, "trials"),
        kind="trials",
        units=len(trials),
        done=done,
        rows=0,
        rejects=0,
        seconds=0.0,
        total_rows=0,
        total_seconds=0.0,
        num_frames=0,
        num_bytes=0,
        finished=done == len(trials),
        reasons={},
        numerics={},
        notes={},
    )
    return [*found, together]


def run_status(output: str) -> list[Status]:
    """Give the state of a dataset, or of every dataset of a run, from commits alone; needs no Ray.

    Raises:
        DatasetError: There is neither.
    """
    if open_store(output).exists(PLAN):
        whole = Dataset.open(output, finished=False)
        below = [Dataset.open(folder, finished=False) for folder in nested(whole)]
        # An export is what lies below it, and has no unit of its own.
        own = [whole] if whole.plan.units or not below else []
        return [status(dataset) for dataset in (*own, *below)]
    if open_store(output).exists(STUDY_FOLDERS):
        return study_status(output)
    folders = [join(output, stage) for stage in STAGES]
    for number in count(1):
        iteration = [join(output, f"iteration_{number}", stage) for stage in ITERATION]
        if not any(open_store(folder).exists(PLAN) for folder in iteration):
            break
        folders += iteration
    found = [status(Dataset.open(folder, finished=False)) for folder in folders if open_store(folder).exists(PLAN)]
    if not found:
        raise DatasetError(f"{output} is neither a dataset nor a run; nothing was begun there")
    return found
