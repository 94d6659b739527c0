"""Takes over what trials found in other runs of a study, from the tables beside their reports.

A trial with the same key asks for the same thing, so it needs no second run, wherever the first one was. Keys hold
settings, no recordings and no weights: these are compared by what the tables say of them. What is taken over are
figures: where another trial speaks or hears with a model, the model is trained here. The figures are kept in
``taken/`` of the study, so that later runs need no more than that.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import PlanMismatchError
from pipeline.store.storage import Store, join, open_store
from pipeline.study.planning.trials import Trial
from pipeline.study.ran import Ran
from pipeline.study.statistics.collecting import Found
from pipeline.study.statistics.tables import RESULTS, UTTERANCES, read_tables, results_bytes, utterances_bytes

logger = logging.getLogger(__name__)

FOLDER = "taken"
"""Of a study, in which what was taken over is kept."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What trials found in other runs.

    Attributes:
        found: By their keys.
        ran: How each went there.
        data: What was read there, by part (``data.py``).
    """

    found: Mapping[str, Found]
    ran: Mapping[str, Ran]
    data: Mapping[str, str]

    def without(self, keys: Sequence[str]) -> "Taken":
        """Leave trials out."""
        left = {key: found for key, found in self.found.items() if key not in keys}
        return replace(self, found=left, ran={key: self.ran[key] for key in left})


def take(folders: Sequence[str], trials: Sequence[Trial], output: str) -> Taken:
    """Read what trials found in other runs; of one that is in several folders, the first counts.

    Args:
        folders: With ``results.parquet`` and ``utterances.parquet`` of a study.
        trials: Those of this study that are not done.
        output: The study's folder.

    Raises:
        DatasetError: A folder has no such tables, or those of another version.
        PlanMismatchError: Folders are of other recordings or encoders than each other.
    """
    found, data = dict[str, Found](), dict[str, str]()
    kept = join(output, FOLDER)
    for folder in [*folders, *([kept] if open_store(kept).exists(RESULTS) else [])]:
        tables = read_tables(open_store(folder))
        here = [trial for trial in trials if trial.key in tables.found and trial.key not in found]
        same = [trial for trial in here if tables.metrics[trial.key] == trial.cell.task.metric]
        if len(same) < len(here):
            count = len(here) - len(same)
            logger.warning("%d trials of %s are not taken over: another metric judges them there", count, folder)
        if not same and trials and folder != kept:
            logger.warning(
                "%s has none of the %d trials that are not done here: encoders, corpora and threads_per_trial must be "
                "spelt alike",
                folder,
                len(trials),
            )
        data = joined(data, tables.data, folder) if same else data
        found |= {trial.key: _named(trial, tables.found[trial.key], output) for trial in same}
        logger.info("%d trials are taken over from %s", len(same), folder)
    ran = {trial.key: _ran(trial, found[trial.key]) for trial in trials if trial.key in found}
    return Taken(found=found, ran=ran, data=data)


def keep(taken: Taken, metrics: Mapping[str, str], store: Store) -> None:
    """Write down what was taken over, for later runs.

    Args:
        taken: It.
        metrics: By which tasks are judged.
        store: Of the study.
    """
    if taken.found:
        results = [result for found in taken.found.values() for result in found.results]
        store.write(f"{FOLDER}/{UTTERANCES}", utterances_bytes(taken.found, metrics))
        store.write(f"{FOLDER}/{RESULTS}", results_bytes(results, taken.data))


def joined(one: Mapping[str, str], other: Mapping[str, str], where: str) -> dict[str, str]:
    """Put together what two runs have read.

    Args:
        one: By part.
        other: By part.
        where: The folder of the other one.

    Raises:
        PlanMismatchError: They differ in a part.
    """
    for part in sorted(one.keys() & other.keys()):
        if one[part] != other[part]:
            raise PlanMismatchError(
                f"{where}: {part.rpartition(' ')[0]} is {other[part]} there and {one[part]} elsewhere; figures of "
                "other recordings or weights cannot be put together: leave the folder out of results_from"
            )
    return {**one, **other}


def _named(trial: Trial, found: Found, output: str) -> Found:
    """Call a trial what this study calls it; it has no folder here."""
    cell = trial.cell
    named: dict[str, Any] = {
        "factor": cell.factor,
        "level": cell.level,
        "encoder": cell.tokens.encoder,
        "codebooks_of": cell.tokens.codebooks_of,
        "command": trial.command(output),
        "folder": "",
    }
    return replace(found, results=tuple(replace(each, **named) for each in found.results))


def _ran(trial: Trial, found: Found) -> Ran:
    first = found.results[0]
    return Ran(
        key=trial.key,
        name=trial.name,
        seconds=first.seconds,
        overhead_seconds=first.overhead_seconds,
        starts=first.starts,
    )
