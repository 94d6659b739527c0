"""Opens units of a dataset anew, for rejects that were made of passing troubles; all other units keep their bytes.

A generation begins when the one before is whole: every unit committed and shown. Its record is put-if-absent, so that
two drivers begin the same one. Killed at any moment and run again, a dataset goes on with the generation it is in.
"""

import logging
from collections.abc import Sequence

from pipeline import faults
from pipeline.errors import SettingsError
from pipeline.schema import Reason
from pipeline.store.commits import Commit
from pipeline.store.completion import Account, clean_up
from pipeline.store.dataset import SUCCESS, Dataset
from pipeline.store.generations import Redo

logger = logging.getLogger(__name__)


def check_reasons(reasons: Sequence[str]) -> None:
    """Refuse a reason that there is not.

    Raises:
        SettingsError: The message names those that there are.
    """
    if unknown := sorted(set(reasons) - set(Reason)):
        raise SettingsError(f"redo_rejects must be reasons of rejects ({', '.join(Reason)}), got {', '.join(unknown)}")


def goes_on(dataset: Dataset, reasons: Sequence[str]) -> bool:
    """Whether a generation for these reasons is begun and not done: the same command, given again, goes on with it."""
    if not dataset.redos or not dataset.pending():
        return False
    last = dataset.redos[-1]
    return set(reasons) <= set(last.reasons) and not set(last.units).isdisjoint(dataset.pending())


def reopen(dataset: Dataset, reasons: Sequence[str], *, whole: bool = False) -> list[str]:
    """Begin a generation with the units that hold rejects of some reasons.

    Args:
        dataset: A dataset all of whose units are committed.
        reasons: Which rejects are to be made anew.
        whole: Whether all units are opened if one is.

    Returns:
        The units that are to be made now; none where there are no such rejects.
    """
    dataset.look_again()
    chosen = [commit.unit for commit in dataset.each_commit() if _holds(commit, reasons)]
    if not chosen:
        logger.info("%s: no rejects with the reasons %s", dataset.uri, ", ".join(reasons))
        return []
    units = list(dataset.plan.units) if whole else chosen
    # What is of before is shown and its attempts gone, so that nobody can show it later over what is made now.
    if not dataset.finished():
        Account.of(dataset).show()
    dataset.store.delete([SUCCESS])
    clean_up(dataset)
    faults.point("before_redo", dataset.uri)
    redo = Redo(number=len(dataset.redos) + 1, reasons=sorted(set(reasons)), units=units)
    dataset.store.create(redo.name, redo.to_bytes())
    dataset.look_again()
    faults.point("after_redo", dataset.uri)
    # One who finished the generation before at this moment may have written it again.
    dataset.store.delete([SUCCESS])
    pending = dataset.pending()
    logger.info("%s: %d units hold rejects with the reasons %s and are made anew", dataset.uri, len(pending), reasons)
    return pending


def _holds(commit: Commit, reasons: Sequence[str]) -> bool:
    return commit.num_rejects > 0 and not set(reasons).isdisjoint(commit.notes.get("reasons", ()))
