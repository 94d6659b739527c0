"""One commit that holds all of an evaluation: made where it is not there yet, by whoever runs first."""

from collections.abc import Callable

from pipeline.settings import Settings
from pipeline.store.completion import finish
from pipeline.store.dataset import SUCCESS, Dataset, Plan
from pipeline.store.provenance import record_settings

KEPT = "_judged"
"""Where an evaluation may keep what it has judged until its commit."""


def made_once(config: Settings, output: str, plan: Plan, make: Callable[[Dataset], None]) -> Dataset:
    """Give a finished dataset of one unit.

    Args:
        config: What is recorded beside it.
        output: Its folder.
        plan: It.
        make: Commits the unit; called where no run has.

    Raises:
        PlanMismatchError: The folder was made with other settings.
    """
    dataset = Dataset.create(output, plan)
    record_settings(dataset.store, config)
    if not dataset.store.exists(SUCCESS):
        if dataset.pending():
            make(dataset)
        dataset.store.delete_tree(KEPT)
        finish(dataset)
    return dataset
