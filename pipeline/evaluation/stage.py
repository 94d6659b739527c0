"""Evaluate a trained task: a row per utterance, metrics with intervals, and which layers it listens to.

Reads: a finished folder of train_task, the tokens (or features) and the manifest that it was trained on, or others of
the same codebooks. Writes: ``utterances.parquet``, ``metrics.json``, ``layer_use.json``, ``index.html`` and plots, all
in one commit. Restart: a killed run begins again and gives the same bytes. It is one process, without Ray. Memory: the
network, one micro-batch, and a row per utterance (an embedding too, where there are trials).
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import schema
from pipeline.batches.pools import BatchTicket, HeldOut
from pipeline.batches.sides import VALIDATION, share
from pipeline.cards.facts import card_bytes
from pipeline.errors import SettingsError
from pipeline.evaluation.comparison import LAYER_USE, METRICS, compare, read_facts
from pipeline.evaluation.measuring import confusion, measures, side_use
from pipeline.evaluation.page import page
from pipeline.evaluation.plots import draw
from pipeline.evaluation.report import ComparisonReport, EvaluationReport
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.trials import TrialList, find_trials, read_trials, shown
from pipeline.store.completion import finish, success
from pipeline.store.dataset import SUCCESS, Dataset, Output, Plan, check_folder, parquet_bytes, sha256
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.tasks.division import SPEAKER, Division
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import Inputs, divided, open_datasets, task_data
from pipeline.tasks.trained import TrainedTask, check_fits, open_trained

if TYPE_CHECKING:
    from pipeline.evaluation.predicting import Predicted

logger = logging.getLogger(__name__)

DATA_VERSION = 1
KIND = "evaluation"
UNIT = "utterances"
CONCATENATION = "concatenation puts layers side by side through one linear map and has no weights"


@dataclass(frozen=True, kw_only=True)
class PreparedEvaluation:
    """What is known before anything is computed.

    Attributes:
        trained: The trained task.
        plan: Of the evaluation.
        config: Settings of the training, with the data of the evaluation.
        inputs: Its datasets.
        division: The sides.
        sides: Those to evaluate.
        trials: Of verification; None for none.
    """

    trained: TrainedTask
    plan: Plan
    config: TrainTaskConfig
    inputs: Inputs
    division: Division
    sides: tuple[str, ...]
    trials: TrialList | None


def prepare(config: EvaluateConfig) -> PreparedEvaluation:
    """Open everything and refuse what does not belong together. Needs no torch.

    Raises:
        DatasetError: The model is no finished task, or an input is not finished or of another manifest.
        CodebookMismatchError: The tokens are of another encoder, of other codebooks or of another K.
        SettingsError: A side or layer is not there, or a setting is of another task.
        PlanMismatchError: The output folder was made with other settings.
    """
    assert config.model is not None
    trained = open_trained(config.model)
    _check_settings(config, trained.name)
    trials = None if config.trials is None else read_trials(config.trials)
    training = _on_data(trained, config)
    manifest, dataset = open_datasets(training.data)
    check_fits(trained, dataset)
    inputs = Inputs(manifest=manifest, dataset=dataset, fuser=trained.fuser, clock=trained.clock)
    division = divided(training, manifest, trained=True)
    sides = config.sides or division.tests
    there = (*division.tests, *([VALIDATION] if VALIDATION in division.sides.held_out else []))
    if absent := [side for side in sides if side not in there]:
        raise SettingsError(f"there is no side {', '.join(absent)} to evaluate; {config.model} has {', '.join(there)}")
    if not sides:
        raise SettingsError(
            f"{config.model} was trained without a test side; --sides {VALIDATION} takes the validation"
        )
    content = {
        "data_version": DATA_VERSION,
        "model_sha256": trained.sha256,
        "input_sha256": success(dataset)["dataset_sha256"],
        "manifest_sha256": success(manifest.dataset)["dataset_sha256"],
        "sides": list(sides),
        "examples": config.examples,
        "batch_seconds": config.batch_seconds,
        "trials_sha256": None if trials is None else trials.sha256,
        "decoding": _decoding(config, trained.name),
    }
    about = {
        "task": trained.name,
        "fusion": trained.fuser.settings.fusion,
        "layers": list(trained.fuser.columns),
        "encoder": dataset.plan.lineage["encoder"],
        "frame_rate": trained.clock.sample_rate / trained.clock.hop_length,
    }
    lineage = {"kind": KIND, "schema_version": schema.SCHEMA_VERSION, **content, **about}
    plan = Plan(kind=KIND, content=content, lineage=lineage, units=[UNIT])
    check_folder(open_store(config.output), plan)
    return PreparedEvaluation(
        trained=trained,
        plan=plan,
        config=training,
        inputs=inputs,
        division=division,
        sides=sides,
        trials=trials,
    )


def _check_settings(config: EvaluateConfig, task: str) -> None:
    if config.trials is not None and task != "sid":
        raise SettingsError(f"trials are judged by embeddings of a sid task; {config.model} is of the task {task}")
    if config.decoding != type(config.decoding)() and task != "asr":
        raise SettingsError(f"beam_width and language_model are settings of asr; {config.model} is of the task {task}")


def _on_data(trained: TrainedTask, config: EvaluateConfig) -> TrainTaskConfig:
    """Give the settings of the training, with the data of the evaluation."""
    data = trained.config.data
    if config.manifest is not None:
        data = replace(data, manifest=config.manifest)
    if config.tokens is not None or config.features is not None:
        data = replace(data, tokens=config.tokens, features=config.features)
    return replace(trained.config, data=replace(data, batch_seconds=config.batch_seconds))


def _decoding(config: EvaluateConfig, task: str) -> dict[str, Any] | None:
    """Give the settings that hypotheses depend on; a language model by its content."""
    if task != "asr":
        return None
    if config.decoding.beam_width == 1:
        return {"beam_width": 1}
    found = config.decoding.flat()
    path = found["language_model"]
    if path is not None:
        try:
            store, _, name = path.rpartition("/")
            found["language_model"] = sha256(open_store(store).read(name))
        except FileNotFoundError:
            raise SettingsError(f"there is no language model at {path}; give an ARPA or KenLM file") from None
    return found


def evaluate(config: EvaluateConfig) -> EvaluationReport | ComparisonReport:
    """Evaluate a trained task on utterances that it was not trained on, or lay evaluations side by side.

    Raises:
        DatasetError: The model is no finished task, or an input is not finished or of another manifest.
        CodebookMismatchError: The tokens are of another encoder, of other codebooks or of another K.
        SettingsError: A side or layer is not there, or a setting is of another task.
        PlanMismatchError: The output folder was made with other settings.
    """
    began = time.monotonic()
    config = config.located()
    if config.compare:
        return compare(config.compare, config.output)
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    if not dataset.store.exists(SUCCESS):
        if dataset.pending():
            _make(dataset, prepared, config)
        finish(dataset)
    return _report(dataset, time.monotonic() - began)


def _make(dataset: Dataset, prepared: PreparedEvaluation, config: EvaluateConfig) -> None:
    """Compute everything and commit it at once."""
    import torch

    from pipeline.evaluation.predicting import Predictor
    from pipeline.features.numerics import numerics_key
    from pipeline.tasks.source import TaskSource

    began = time.monotonic()
    device = "cuda" if (torch.cuda.is_available() if config.use_gpu is None else config.use_gpu) else "cpu"
    trained, task = prepared.trained, prepared.trained.task()
    predictor = Predictor(trained.model(task), task, config.decoding, device)
    data = task_data(prepared.config, prepared.inputs, prepared.division)
    source = TaskSource(replace(data, labels=tuple(dict.fromkeys([*data.labels, SPEAKER]))), task)
    held = {side: source.held_out(side) for side in prepared.sides}
    for side, found in held.items():
        if not found.tickets:
            raise SettingsError(f"{prepared.inputs.dataset.uri} leaves no utterance of {side}: {dict(found.left_out)}")
    shown_ids = _examples(held, config.examples, prepared.config.training.seed)
    columns = trained.fuser.columns
    said = {side: predictor.side(source, found.tickets, side, columns, set(shown_ids)) for side, found in held.items()}
    figures = _figures(prepared, said, held)
    use = _layer_use(prepared, said, shown_ids)
    rows = [row for predicted in said.values() for row in predicted.rows]
    pictures = draw(figures, use)
    beside = {METRICS: card_bytes(figures), LAYER_USE: card_bytes(use), "index.html": page(figures, use, pictures)}
    output = Output(
        data=parquet_bytes(pa.Table.from_pylist(rows, schema=_schema(rows)), prepared.plan.lineage),
        rows=len(rows),
        num_frames=sum(row["num_frames"] for row in rows),
        seconds=time.monotonic() - began,
        notes={"plots": bool(pictures)},
        beside={**beside, **{picture.name: picture.data for picture in pictures}},
    )
    dataset.commit(UNIT, dataset.announce(UNIT), output, numerics_key(device))


def _schema(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema(
        [
            pa.field(name, pa.string() if name == SPEAKER else kinds[type(value)], nullable=name == SPEAKER)
            for name, value in rows[0].items()
        ]
    )


def _examples(held: Mapping[str, HeldOut], count: int, seed: int) -> list[str]:
    """Choose utterances to show, of the first side: random ones, the same in every run."""
    first: Sequence[BatchTicket] = next(iter(held.values())).tickets
    ids = sorted(piece.utterance_id for ticket in first for piece in ticket.pieces)
    return sorted(ids, key=lambda name: share(seed, f"shown {name}"))[:count]


def _figures(
    prepared: PreparedEvaluation, said: Mapping[str, "Predicted"], held: Mapping[str, HeldOut]
) -> dict[str, Any]:
    """Give ``metrics.json``."""
    task, lineage, sides = prepared.trained.name, prepared.plan.lineage, {}
    for side, predicted in said.items():
        rows = predicted.rows
        left_out = {reason: count for reason, count in Counter(held[side].left_out).items() if count}
        sides[side] = {"utterances": len(rows), "left_out": left_out, "metrics": measures(task, rows)}
        if task != "asr":
            sides[side]["confusion"] = confusion(rows)
    names = ("task", "fusion", "layers", "encoder", "model_sha256", "input_sha256", "manifest_sha256", "decoding")
    return {**{name: lineage[name] for name in names}, "sides": sides, "trials": _verified(prepared.trials, said)}


def _verified(trials: TrialList | None, said: Mapping[str, "Predicted"]) -> dict[str, Any] | None:
    """Judge the trials among all utterances that were evaluated."""
    if trials is None:
        return None
    import numpy as np

    from pipeline.tasks.sid.metrics import verify

    vectors = {name: vector for predicted in said.values() for name, vector in predicted.embeddings.items()}
    found = find_trials(trials, list(vectors))
    judged = verify(np.stack(list(vectors.values())), found.first, found.second, found.same)
    if found.left_out:
        logger.warning("%d trials are left out: %s were not evaluated", found.left_out, shown(found.absent))
    told = {"eer": judged.eer, "min_dcf": judged.min_dcf, "trials": judged.trials}
    return {**told, "left_out": found.left_out, "absent": shown(found.absent)}


def _layer_use(
    prepared: PreparedEvaluation, said: Mapping[str, "Predicted"], examples: Sequence[str]
) -> dict[str, Any]:
    """Give ``layer_use.json``."""
    fuser, task = prepared.trained.fuser, prepared.trained.name
    about = {"task": task, "fusion": fuser.settings.fusion, "layers": list(fuser.columns)}
    if fuser.settings.fusion == "concat":
        return {**about, "reason": CONCATENATION, "sides": {}, "examples": []}
    seconds = 1 / float(prepared.plan.lineage["frame_rate"])
    rows = {row["utterance_id"]: row for predicted in said.values() for row in predicted.rows}
    weights = {name: found for predicted in said.values() for name, found in predicted.over_time.items()}
    told = [
        {
            **{name: rows[key][name] for name in ("utterance_id", "side", "reference", "hypothesis")},
            "seconds_per_frame": seconds,
            "weights": weights[key].round(6).astype(float).tolist(),
        }
        for key in examples
    ]
    sides = {side: side_use(task, predicted.rows, fuser.columns) for side, predicted in said.items()}
    return {**about, "reason": None, "sides": sides, "examples": told}


def _report(dataset: Dataset, seconds: float) -> EvaluationReport:
    figures, use = read_facts(dataset)
    commit = dataset.commits()[0]
    return EvaluationReport(
        stage=KIND,
        task=figures["task"],
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        sides={side: {k: v for k, v in told.items() if k != "confusion"} for side, told in figures["sides"].items()},
        trials=figures["trials"],
        layer_use={
            side: dict(zip(use["layers"], told["all"]["mean"], strict=True)) for side, told in use["sides"].items()
        },
        reason=use["reason"],
        wall_seconds=seconds,
        plots=bool(commit.notes["plots"]),
    )
