"""The state of a dataset, or of every dataset of a run, from commits alone; starts no Ray and imports no torch."""

from itertools import count

from pipeline.errors import DatasetError
from pipeline.store.completion import Status, nested, status
from pipeline.store.dataset import PLAN, Dataset
from pipeline.store.storage import join, open_store

STAGES = ("manifest", "features", "codebooks", "tokens")
"""Datasets of a run of run_pipeline, in order."""

ITERATION = ("sample", "codebooks", "tokens", "encoder")
"""Datasets of an iteration of run_pretraining."""


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
