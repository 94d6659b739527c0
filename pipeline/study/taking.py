"""Takes over what trials found in other runs of a study, from the tables beside their reports.

A trial's key is of its content, so a trial of the same key needs no second run, wherever the first one was. What is
taken over are figures: where another trial speaks or hears with a model, the model is trained here.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.store.storage import open_store
from pipeline.study.planning.trials import Trial
from pipeline.study.ran import Ran
from pipeline.study.statistics.collecting import Found
from pipeline.study.statistics.tables import read_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a trial found in another run, and how it went there."""

    found: Found
    ran: Ran


def take(folders: Sequence[str], trials: Sequence[Trial], output: str) -> Mapping[str, Taken]:
    """Read what trials found in other runs, by their keys; of one that is in several folders, the first counts.

    Args:
        folders: With ``results.parquet`` and ``utterances.parquet`` of a study.
        trials: Of this study.
        output: The study's folder.

    Raises:
        DatasetError: A folder has no such tables, or those of another version.
    """
    taken = dict[str, Taken]()
    for folder in folders:
        found, metrics = read_tables(open_store(folder))
        here = [trial for trial in trials if trial.key in found and trial.key not in taken]
        same = [trial for trial in here if metrics[trial.key] == trial.cell.task.metric]
        if len(same) < len(here):
            logger.warning(
                "%d trials of %s are judged by another metric there, and are run again", len(here) - len(same), folder
            )
        taken |= {trial.key: _taken(trial, found[trial.key], output) for trial in same}
        logger.info("%d trials are taken over from %s", len(same), folder)
    return taken


def _taken(trial: Trial, found: Found, output: str) -> Taken:
    """Call the trial what this study calls it, and name the command that trains it again here."""
    cell, first = trial.cell, found.results[0]
    named: dict[str, Any] = {
        "factor": cell.factor,
        "level": cell.level,
        "encoder": cell.tokens.encoder,
        "codebooks_of": cell.tokens.codebooks_of,
        "command": trial.command(output),
    }
    ran = Ran(
        key=trial.key,
        name=trial.name,
        seconds=first.seconds,
        overhead_seconds=first.overhead_seconds,
        starts=first.starts,
    )
    return Taken(found=replace(found, results=tuple(replace(each, **named) for each in found.results)), ran=ran)
