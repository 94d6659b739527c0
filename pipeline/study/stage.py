"""A study: what its trials share is made once, its trials are run side by side, and what they found is compared.

Reads: a study (TOML) and the corpora that it names. Writes: ``parts/``, datasets that trials share;
``trials/TASK/KEY/`` with ``model/`` and ``test/``; ``results.parquet``, ``utterances.parquet``, ``study.json`` and the
report (``index.html``, ``report.md``). Restart: what is made stays made, trainings go on from their checkpoints; a
study that was changed keeps what still fits. Memory: the driver holds the rows of all test utterances, about 200
bytes per utterance and trial.

Trials are plain tasks of the runner. Ray Tune's schedulers end bad trials early, and a comparison needs the whole of
each; its searchers choose what to try, and a study says so itself.
"""

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError, StorageError, TrainingError
from pipeline.redaction import redact
from pipeline.status import STUDY_FOLDERS
from pipeline.store.provenance import record_settings
from pipeline.store.storage import Store, open_store
from pipeline.study.data import DATA, data_of
from pipeline.study.facts import Cost, Failure, StudyFacts
from pipeline.study.making import is_there, make_parts, part_costs, states_of
from pipeline.study.planning.parts import Parts
from pipeline.study.planning.reading import read_study
from pipeline.study.planning.trials import Trial, plan_trials, unlike
from pipeline.study.ran import Ran, read_failed, read_ran
from pipeline.study.report.write import report_files
from pipeline.study.reporting import StudyReport
from pipeline.study.running import run_trial
from pipeline.study.settings import RunStudyConfig
from pipeline.study.statistics.assembling import assemble
from pipeline.study.statistics.collecting import collect
from pipeline.study.statistics.laid import Laid
from pipeline.study.statistics.tables import RESULTS, UTTERANCES, results_bytes, utterances_bytes
from pipeline.study.table import Study
from pipeline.study.taking import Taken, joined, keep, take
from pipeline.work.choice import Choice
from pipeline.work.runner import Runner

logger = logging.getLogger(__name__)

STUDY, FACTS = "study.toml", "study.json"
SHIPPED = Path(__file__).parent / "studies"
"""The studies that ship."""


def read_named(name: str) -> tuple[str, Study]:
    """Read a study, from a file or by the name of one that ships; gives its text too.

    Raises:
        SettingsError: There is none, or it is wrong.
    """
    for path in (Path(name), SHIPPED / f"{name}.toml"):
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SettingsError(f"study {name} is not UTF-8 text: {error}") from error
            return text, read_study(text, str(path) if path == Path(name) else name)
    shipped = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.toml")))
    raise SettingsError(f"no study {name!r}: neither a file nor one of {shipped}")


def run_study(config: RunStudyConfig) -> StudyReport:
    """Run the trials of a study that are not done, and write its report.

    Source: Mousavi et al. 2024, How Should We Extract Discrete Audio Tokens from Self-Supervised Models?, arXiv
    2406.10735, whose questions it asks.

    Raises:
        PipelineError: What making a shared part raises.
        DatasetError: A folder of ``results_from`` has no tables of a study.
        PlanMismatchError: Its tables are of other recordings or encoders.
        SettingsError: The study is wrong.
        TrainingError: Trials failed; the report is written, and tells of each.
    """
    began, config = time.monotonic(), config.located()
    text, study = read_named(config.study)
    planned, parts = plan_trials(study, config)
    if unknown := sorted(set(config.tasks) - set(study.tasks)):
        raise SettingsError(f"tasks: the study has no {', '.join(unknown)}; it has {', '.join(study.tasks)}")
    trials = unlike(planned)
    done = _finished(trials)
    taken = take(config.results_from, [trial for trial in trials if trial.key not in done], config.output)
    to_run = trials_to_run(trials, config.tasks, done, taken.found)
    store = _begin(config, text, parts, [trial for trial in trials if trial.key not in taken.found or trial in to_run])
    _make_parts(parts, to_run, [trial for trial in trials if trial.key in done], config, taken)
    # What is refused is not kept: the next run may leave its folder out.
    keep(taken, _metrics(study), store)
    before = len(done)
    for spoken in (False, True):
        # What is spoken and heard needs the vocoder and the recogniser that the others train.
        wave = [trial for trial in to_run if (trial.speech is not None) == spoken]
        done |= {each.key: each for each in _run(_ready(wave, done), len(done), config, began)}
    taken = taken.without(list(done))
    facts = _found(study, planned, parts, done, taken, config.output, began)
    report = StudyReport(
        stage="study",
        output=store.uri,
        trials=len(trials),
        trials_done=len(done) + len(taken.found),
        trials_done_now=len(done) - before,
        failed={each.name: each.why for each in facts.failures},
        findings=tuple(facts.findings),
        claims={claim.text: claim.verdict for claim in facts.claims},
        wall_seconds=time.monotonic() - began,
    )
    if facts.failures:
        first = facts.failures[0]
        raise TrainingError(
            f"{len(facts.failures)} of {report.trials} trials failed, first {first.name}: {first.why}; the report in "
            f"{store.uri} tells of each, and the same command tries them again"
        )
    return report


def _metrics(study: Study) -> dict[str, str]:
    return {name: task.metric for name, task in study.tasks.items()}


def _begin(config: RunStudyConfig, text: str, parts: Parts, trials: Sequence[Trial]) -> Store:
    """Write down what is run, and with which settings.

    Raises:
        StorageError: Nothing can be written there.
    """
    store = open_store(config.output)
    try:
        store.write(STUDY, text.encode())
    except OSError as error:
        raise StorageError(f"{store.uri} cannot be written: {error}; give another --output") from error
    # Of a mixture, its recordings are a dataset beside the manifest.
    made = {uri for part in parts.all() for uri in (part.uri, str(part.config.flat()["output"]))}
    folders = {"parts": made, "trials": {trial.folder for trial in trials}}
    within = {
        what: sorted(uri.removeprefix(config.output).lstrip("/") for uri in uris) for what, uris in folders.items()
    }
    store.write(STUDY_FOLDERS, json.dumps(within, indent=1).encode())
    record_settings(store, config)
    return store


def _make_parts(
    parts: Parts, to_run: Sequence[Trial], done: Sequence[Trial], config: RunStudyConfig, taken: Taken
) -> None:
    """Make what trials share, and refuse figures that were taken over from other data."""
    here = [*to_run, *(trial for trial in done if not config.tasks or trial.cell.task.name in config.tasks)]
    make_parts(parts.behind(set().union(*(trial.inputs() for trial in here))), open_store(config.output))
    if taken.data:
        told = [part for part in parts.all() if part.kind in DATA and is_there(part)]
        joined(data_of(states_of(told)), taken.data, "results_from")


def trials_to_run(
    trials: Sequence[Trial], tasks: Sequence[str], done: Collection[str], taken: Collection[str]
) -> list[Trial]:
    """Give the trials to run: those that are neither done nor taken over, and those whose models these need.

    Args:
        trials: Of the study, each once.
        tasks: Whose trials are wanted; none: all.
        done: Keys of those that are done here, with their models.
        taken: Keys of those whose figures were taken over.
    """
    lacking = [trial for trial in trials if trial.key not in done]
    wanted = [trial for trial in lacking if not tasks or trial.cell.task.name in tasks]
    asked = [trial for trial in wanted if trial.key not in taken]
    keys = {trial.key for trial in asked}
    # A model that was trained elsewhere is trained here, whatever tasks are wanted.
    keys |= {key for trial in asked if trial.speech is not None for key in trial.speech.after if key in taken}
    return [trial for trial in lacking if trial.key in keys]


def _found(
    study: Study,
    trials: Sequence[Trial],
    parts: Parts,
    done: Mapping[str, Ran],
    taken: Taken,
    output: str,
    began: float,
) -> StudyFacts:
    """Put together what finished trials found, and write the tables and the report."""
    store = open_store(output)
    ran = {**done, **taken.ran}
    here = [(trial, done[trial.key]) for trial in unlike(trials) if trial.key in done]
    found = {**collect(here, output), **taken.found}
    in_order = {trial.key: found[trial.key] for trial in unlike(trials) if trial.key in found}
    laid = Laid(study=study, trials=trials, found=in_order)
    told = [("command", "python jobs/run_study.py --study study/study.toml --data DATA --output study")]
    told += _told(study, trials, ran, time.monotonic() - began)
    told += (
        [("taken over", f"{len(taken.found)} trials of other runs, of which only figures are here")]
        if taken.found
        else []
    )
    states = states_of([part for part in parts.all() if is_there(part)])
    told += [
        ("rejects", f"{state.rejects:,} in {part.kind} {part.name}; levels are compared on what both have")
        for part, state in states
        if state is not None and state.rejects
    ]
    costs = [*part_costs(states, store), *_trial_costs(study, trials, ran)]
    failures = _failures([trial for trial in unlike(trials) if trial.key not in done])
    facts = assemble(laid, costs=costs, failures=failures, told=told)
    _write(store, laid, facts, {**taken.data, **data_of(states)})
    return facts


def _run(trials: Sequence[Trial], there: int, config: RunStudyConfig, began: float) -> Iterator[Ran]:
    """Run trials, tell of each, and give those that are done."""
    if not trials:
        return
    # Trials are minutes of work each, which are for Ray unless this process is asked for.
    runner = Choice("ray" if config.work.runner == "auto" else config.work.runner, 0.0).runner
    workers = at_once(runner, config)
    logger.info("%d trials to run, %d are there; %d at once", len(trials), there, workers)
    times = list[float]()
    asked = ((trial,) for trial in _within(trials, config, began))
    gone = runner.tasks(run_trial, asked, workers=workers, cpus=config.threads_per_trial, gpus=config.gpus_per_trial)
    for done, ran in enumerate(gone, 1):
        times.append(ran.seconds)
        left = (len(trials) - done) * sum(times) / len(times) / workers
        state = f"failed: {ran.failed}" if ran.failed else "done"
        logger.info(
            "trial %d of %d, %s: %s in %.0f s, of which %.1f s before its first step; about %.0f minutes to go",
            done, len(trials), ran.name, state, ran.seconds, ran.overhead_seconds, left / 60,
        )  # fmt: skip
        if not ran.failed:
            yield ran


def _failures(trials: Sequence[Trial]) -> list[Failure]:
    """Tell of the trials whose last run failed, in this run of the study or an earlier one."""
    found = [read_failed(open_store(trial.folder)) for trial in trials]
    return [Failure(trial=each.key, name=each.name, why=str(each.failed)) for each in found if each is not None]


def _ready(wave: Sequence[Trial], ran: Collection[str]) -> list[Trial]:
    """Give the trials for which everything is there that they need of others, of which some are done."""
    ready = [trial for trial in wave if trial.speech is None or set(trial.speech.after) <= set(ran)]
    if len(ready) < len(wave):
        logger.warning("%d trials wait for a vocoder or recogniser that is not there yet", len(wave) - len(ready))
    return ready


def _within(trials: Sequence[Trial], config: RunStudyConfig, began: float) -> Iterator[Trial]:
    """Give trials while there is time for them."""
    for number, trial in enumerate(trials):
        if config.max_hours is not None and time.monotonic() - began >= 3600 * config.max_hours:
            logger.warning("max_hours are over: %d trials are left for another run", len(trials) - number)
            return
        yield trial


def at_once(runner: Runner, config: RunStudyConfig) -> int:
    """Say how many trials fit into the machines at the same time.

    Raises:
        SettingsError: None does.
    """
    nodes = runner.nodes()
    if runner.name == "here" and not config.gpus_per_trial:
        return 1
    room = sum(
        min(
            int(node.cpus // config.threads_per_trial),
            int(node.gpus / config.gpus_per_trial) if config.gpus_per_trial else 1 << 30,
        )
        for node in nodes
    )
    if room < 1:
        raise SettingsError(
            f"no machine has {config.threads_per_trial} CPU(s) and {config.gpus_per_trial:g} GPU(s) for a trial; lower "
            "threads_per_trial or gpus_per_trial"
        )
    return 1 if runner.name == "here" else min(room, config.trials_at_once or room)


def _finished(trials: Sequence[Trial]) -> dict[str, Ran]:
    found = {trial.key: read_ran(open_store(trial.folder)) for trial in trials}
    return {key: ran for key, ran in found.items() if ran is not None}


def _trial_costs(study: Study, trials: Sequence[Trial], ran: Mapping[str, Ran]) -> Iterator[Cost]:
    for task in study.tasks:
        mine = {trial.key: ran[trial.key] for trial in trials if trial.cell.task.name == task and trial.key in ran}
        if mine:
            seconds = sum(each.seconds for each in mine.values())
            yield Cost(what=f"trials of {task}", count=len(mine), seconds=seconds, audio_hours=0.0, bytes=0)


def _told(study: Study, trials: Sequence[Trial], ran: Mapping[str, Ran], seconds: float) -> list[tuple[str, str]]:
    overheads = sorted(each.overhead_seconds for each in ran.values())
    told = [
        ("trials", f"{len(ran)} of {len(unlike(trials))} done, {len(study.seeds)} seeds per cell"),
        ("begun more than once", f"{sum(each.starts > 1 for each in ran.values())} trials"),
        ("this run", f"{seconds / 60:.1f} minutes"),
    ]
    if overheads:
        middle = overheads[len(overheads) // 2]
        told.append(("from the start of a trial to its first step", f"{middle:.1f} s in the middle of all trials"))
    return told


def _write(store: Store, laid: Laid, facts: StudyFacts, read: Mapping[str, str]) -> None:
    files: dict[str, Any] = {
        FACTS: redact(json.dumps(asdict(facts), indent=1)).encode(),
        UTTERANCES: utterances_bytes(laid.found, _metrics(laid.study)),
        RESULTS: results_bytes(facts.results, read),
        **report_files(facts),
    }
    for name, data in files.items():
        store.write(name, data)
