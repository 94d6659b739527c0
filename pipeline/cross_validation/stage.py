"""Train and test a task fold by fold, as leaving one speaker out, and pool what all folds say.

Reads: what train_task reads. Writes: ``folds/NAME/model`` as train_task and ``folds/NAME/test`` as evaluate, one fold
after another, and then in one commit ``utterances.parquet`` (a row per utterance, with its fold), ``metrics.json``,
``layer_use.json``, ``index.html`` and plots. Restart: finished folds stay, a fold begun goes on from its checkpoint.
Memory: that of train_task, and a row per utterance.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.cards.facts import card_bytes
from pipeline.cross_validation.folds import folds_of, values_of
from pipeline.cross_validation.page import folds_section
from pipeline.cross_validation.pooling import POOLED, FoldResult, pooled_figures, pooled_rows, pooled_use
from pipeline.cross_validation.report import CrossValidationReport
from pipeline.cross_validation.settings import CrossValidateConfig
from pipeline.errors import SettingsError
from pipeline.evaluation.comparison import LAYER_USE, METRICS, UNIT, read_facts
from pipeline.evaluation.page import page
from pipeline.evaluation.plots import draw
from pipeline.evaluation.stage import decoding_content, evaluate
from pipeline.store.completion import finish, success, unless_finished
from pipeline.store.dataset import SUCCESS, Dataset, Output, Plan, canonical, check_folder, parquet_bytes, sha256
from pipeline.store.provenance import record_settings
from pipeline.store.reading import open_committed
from pipeline.store.storage import open_store
from pipeline.tasks.kinds import KINDS
from pipeline.tasks.stage import prepare as prepare_task
from pipeline.tasks.stage import train_task

logger = logging.getLogger(__name__)

DATA_VERSION = 1
KIND = "cross_validation"


@dataclass(frozen=True, kw_only=True)
class PreparedFolds:
    """What is known before anything is trained.

    Attributes:
        plan: Of all folds together.
        values: Everything that is left out in turn.
        folds: What each fold is tested on, by its name.
    """

    plan: Plan
    values: tuple[str, ...]
    folds: Mapping[str, tuple[str, ...]]


def prepare(config: CrossValidateConfig) -> PreparedFolds:
    """Plan every fold and refuse what cannot be trained or tested. Needs neither Ray nor torch.

    Raises:
        DatasetError: An input is not finished, or the tokens were not made from the manifest.
        SettingsError: There are fewer than two folds, or one of them cannot be trained or tested.
        PlanMismatchError: The output folder was made with other settings.
    """
    run, folding = config.run, config.folding
    manifest = Manifest(run.data.manifest)
    values = values_of(manifest, folding.folds_by, KINDS[run.task].label)
    folds = folds_of(values, folding, run.training.seed)
    plans = {name: _fold_plan(config, name, left_out, values) for name, left_out in folds.items()}
    contents = [plan.content for plan in plans.values()]
    same = {key: value for key, value in contents[0].items() if all(found.get(key) == value for found in contents)}
    content = {
        **same,
        "data_version": DATA_VERSION,
        "folds_by": folding.folds_by,
        "folds": {name: list(left_out) for name, left_out in folds.items()},
        "plans": {name: sha256(canonical(plan.content).encode()) for name, plan in plans.items()},
        "examples": folding.examples,
        "decoding": decoding_content(config.decoding, run.task),
    }
    lineage = {"kind": KIND, "schema_version": schema.SCHEMA_VERSION, **content}
    plan = Plan(kind=KIND, content=content, lineage=lineage, units=[UNIT])
    check_folder(open_store(config.output), plan)
    return PreparedFolds(plan=plan, values=values, folds=folds)


def _fold_plan(config: CrossValidateConfig, name: str, left_out: tuple[str, ...], values: tuple[str, ...]) -> Plan:
    try:
        return prepare_task(config.training(name, left_out, values)).plan
    except SettingsError as error:
        raise SettingsError(f"fold {name}: {error}") from error


def cross_validate(config: CrossValidateConfig) -> CrossValidationReport:
    """Train a task on all speakers but one and test it on that one, for each in turn; then pool what was found.

    Raises:
        DatasetError: The tokens were not made from the manifest.
        SettingsError: There are fewer than two folds, or one of them cannot be trained or tested.
        TrainingError: A loss is not finite, or workers were lost too often.
        PlanMismatchError: The output folder was made with other settings.
    """
    began = time.monotonic()
    config = config.located()
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    made = 0
    if not dataset.store.exists(SUCCESS):
        with unless_finished(dataset):
            made = _make(dataset, prepared, config)
    return _report(dataset, made, time.monotonic() - began)


def _make(dataset: Dataset, prepared: PreparedFolds, config: CrossValidateConfig) -> int:
    """Make the folds that are not there, pool all; give how many were made."""
    began, made, found = time.monotonic(), 0, []
    for number, (name, left_out) in enumerate(prepared.folds.items(), 1):
        there = open_store(config.evaluation(name).output).exists(SUCCESS)
        logger.info("fold %d of %d: %s%s", number, len(prepared.folds), name, ", which is there" if there else "")
        made += not there
        found.append(_fold(config, prepared, name, left_out))
    table = pooled_rows(found)
    rows = table.to_pylist()
    figures, use = pooled_figures(found, rows), pooled_use(found, rows)
    pictures = draw(figures, use, {})
    shown = page(figures, use, pictures, [folds_section(figures, use)])
    beside = {METRICS: card_bytes(figures), LAYER_USE: card_bytes(use), "index.html": shown}
    output = Output(
        data=parquet_bytes(table, dataset.plan.lineage),
        rows=len(rows),
        num_frames=sum(row["num_frames"] for row in rows),
        seconds=time.monotonic() - began,
        notes={"plots": bool(pictures)},
        beside={**beside, **{picture.name: picture.data for picture in pictures}},
    )
    if dataset.pending():
        dataset.commit(UNIT, dataset.announce(UNIT), output, {})
    finish(dataset)
    return made


def _fold(config: CrossValidateConfig, prepared: PreparedFolds, name: str, left_out: tuple[str, ...]) -> FoldResult:
    """Train and test a fold, as far as it is not there."""
    trained = train_task(config.training(name, left_out, prepared.values))
    evaluate(config.evaluation(name))
    tested = Dataset.open(config.evaluation(name).output, kind="evaluation")
    figures, use = read_facts(tested)
    with open_committed(tested, UNIT) as file:
        rows = pq.read_table(file)
    return FoldResult(name=name, tested_on=left_out, kept_step=trained.kept_step, figures=figures, use=use, rows=rows)


def _report(dataset: Dataset, made: int, seconds: float) -> CrossValidationReport:
    figures, use = read_facts(dataset)
    used: dict[str, Any] = use["sides"].get(POOLED, {})
    return CrossValidationReport(
        stage=KIND,
        task=figures["task"],
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        pooled={name: told for name, told in figures["sides"][POOLED].items() if name != "confusion"},
        over_folds=figures["over_folds"],
        folds=figures["folds"],
        layer_use=dict(zip(use["layers"], used["all"]["mean"], strict=True)) if used else {},
        reason=use["reason"],
        folds_done_now=made,
        wall_seconds=seconds,
        plots=bool(dataset.commits()[0].notes["plots"]),
    )
