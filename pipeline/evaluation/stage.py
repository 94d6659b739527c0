"""Evaluate a trained task: a row per utterance, metrics with intervals, and which layers it listens to.

Reads: a finished folder of train_task, the tokens (or features) and the manifest that it was trained on, or others of
the same codebooks. Writes: ``utterances.parquet``, ``metrics.json``, ``layer_use.json``, ``index.html`` and plots, all
in one commit. Restart: a killed run begins again and gives the same bytes. It is one process, without Ray. Memory: the
network, one micro-batch, and a row per utterance (an embedding too, where there are trials).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.batches.pieces import Piece
from pipeline.batches.pools import BatchTicket, HeldOut
from pipeline.batches.sides import VALIDATION, share
from pipeline.cards.facts import card_bytes
from pipeline.errors import SettingsError
from pipeline.evaluation.comparison import LAYER_USE, METRICS, UNIT, compare, read_facts
from pipeline.evaluation.facts import figures, layer_use
from pipeline.evaluation.once import made_once
from pipeline.evaluation.page import page
from pipeline.evaluation.plots import draw
from pipeline.evaluation.recorded.stage import evaluate_recorded
from pipeline.evaluation.recordings import hear
from pipeline.evaluation.report import ComparisonReport, EvaluationReport
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.speech.comparison import KIND as SPEECH
from pipeline.evaluation.speech.comparison import SpeechComparisonReport, compare_speech
from pipeline.evaluation.speech.report import SpeechReport
from pipeline.evaluation.speech.stage import evaluate_vocoder
from pipeline.evaluation.trials import TrialList, read_trials
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, parquet_bytes, sha256
from pipeline.store.storage import open_store
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.tasks.division import ALL, SPEAKER, TEST, Division, undivided
from pipeline.tasks.kinds import KINDS, label_classes
from pipeline.tasks.se.targets import open_pairs, trained_targets
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import Inputs, divided, open_datasets, task_data
from pipeline.tasks.trained import TrainedTask, check_fits, open_trained, refuse_strangers

logger = logging.getLogger(__name__)

DATA_VERSION = 1
KIND = "evaluation"


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
    targets = trained_targets(trained.spec) if trained.name == "se" else ()
    clean = open_pairs(training, manifest, trained.clock, targets)
    inputs = Inputs(manifest=manifest, dataset=dataset, fuser=trained.fuser, clock=trained.clock, clean=clean)
    division, sides = _sides(trained, training, manifest, config.sides)
    # Trials compare embeddings, and speakers of verification are mostly such that no training has.
    if trials is None or sides != (ALL,):
        refuse_strangers(trained, manifest, division, sides)
    content = {
        "data_version": DATA_VERSION,
        "model_sha256": trained.sha256,
        "input_sha256": success(dataset)["dataset_sha256"],
        "manifest_sha256": success(manifest.dataset)["dataset_sha256"],
        "sides": list(sides),
        "examples": config.examples,
        "batch_seconds": config.batch_seconds,
        "trials_sha256": None if trials is None else trials.sha256,
        "decoding": decoding_content(config.decoding, trained.name),
        **({} if clean is None else clean.content()),
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


def _sides(
    trained: TrainedTask, training: TrainTaskConfig, manifest: Manifest, asked: tuple[str, ...]
) -> tuple[Division, tuple[str, ...]]:
    """Divide the manifest of the evaluation, and give the sides to evaluate."""
    own = success(manifest.dataset)["dataset_sha256"] != trained.dataset.plan.content["manifest_sha256"]
    if asked == (ALL,):
        if not own:
            raise SettingsError(
                f"--sides {ALL} is for a manifest of its own; {manifest.dataset.uri} is what {trained.dataset.uri} was "
                "trained on: leave --sides out to take what was held out"
            )
        kind = KINDS[trained.name]
        return undivided(manifest, needed=(kind.label,), classes=label_classes(kind)), asked
    if own and not asked:
        raise SettingsError(
            f"{manifest.dataset.uri} is another manifest than {trained.dataset.uri} was trained on: give --sides {ALL} "
            f"to test on all of its utterances, or --sides {TEST} to divide it as the training divided its own"
        )
    division = divided(training, manifest, trained=True)
    sides = asked or division.tests
    there = (*division.tests, *([VALIDATION] if VALIDATION in division.sides.held_out else []))
    if absent := [side for side in sides if side not in there]:
        told = f"{trained.dataset.uri} has {', '.join(there) or 'none'}"
        raise SettingsError(f"there is no side {', '.join(absent)} to evaluate; {told}")
    if not sides:
        raise SettingsError(
            f"{trained.dataset.uri} was trained without a test side; --sides {VALIDATION} takes the validation"
        )
    return division, sides


def _check_settings(config: EvaluateConfig, task: str) -> None:
    if config.trials is not None and task != "sid":
        raise SettingsError(f"trials are judged by embeddings of a sid task; {config.model} is of the task {task}")
    if config.clean_tokens is not None and task != "se":
        raise SettingsError(f"clean_tokens is a setting of se; {config.model} is of the task {task}")
    if config.decoding != type(config.decoding)() and task != "asr":
        raise SettingsError(f"beam_width and language_model are settings of asr; {config.model} is of the task {task}")


def _on_data(trained: TrainedTask, config: EvaluateConfig) -> TrainTaskConfig:
    """Give the settings of the training, with the data of the evaluation."""
    data = trained.config.data
    if config.manifest is not None:
        data = replace(data, manifest=config.manifest)
    if config.tokens is not None or config.features is not None:
        data = replace(data, tokens=config.tokens, features=config.features)
    if config.clean_tokens is not None:
        data = replace(data, clean_tokens=config.clean_tokens, clean_manifest=config.clean_manifest)
    return replace(trained.config, data=replace(data, batch_seconds=config.batch_seconds))


def decoding_content(decoding: DecodingSettings, task: str) -> dict[str, Any] | None:
    """Give the settings that hypotheses depend on; a language model by its content; None for tasks without.

    Raises:
        SettingsError: There is no such language model.
    """
    if task != "asr":
        return None
    if decoding.beam_width == 1:
        return {"beam_width": 1}
    found = decoding.flat()
    path = found["language_model"]
    if path is not None:
        try:
            found["language_model"] = sha256(Path(path).read_bytes())
        except OSError as error:
            raise SettingsError(
                f"there is no language model at {path} ({error.strerror}); give a local ARPA or KenLM file"
            ) from None
    return found


def evaluate(config: EvaluateConfig) -> EvaluationReport | SpeechReport | ComparisonReport | SpeechComparisonReport:
    """Evaluate a trained task or a vocoder on what it was not trained on, or recordings, or compare evaluations.

    Raises:
        DatasetError: The model is no finished task, or an input is not finished or of another manifest.
        CodebookMismatchError: The tokens are of another encoder, of other codebooks or of another K.
        SettingsError: A side or layer is not there, or a setting is of another task.
        PlanMismatchError: The output folder was made with other settings.
    """
    began = time.monotonic()
    config = config.located()
    if config.compare:
        return _compared(config.compare, config.output)
    if config.vocoder is not None:
        return evaluate_vocoder(config)
    if config.recordings.recorded:
        return evaluate_recorded(config)
    prepared = prepare(config)
    dataset = made_once(config, config.output, prepared.plan, lambda dataset: _make(dataset, prepared, config))
    return _report(dataset, time.monotonic() - began)


def _compared(uris: Sequence[str], output: str) -> ComparisonReport | SpeechComparisonReport:
    """Lay evaluations side by side: of tasks, or of vocoders where the first is one."""
    if Dataset.open(uris[0]).plan.kind == SPEECH:
        return compare_speech(uris, output)
    return compare(uris, output)


def _make(dataset: Dataset, prepared: PreparedEvaluation, config: EvaluateConfig) -> None:
    """Compute everything and commit it at once."""
    import torch

    from pipeline.evaluation.predicting import Predictor
    from pipeline.features.numerics import numerics_key
    from pipeline.tasks.source import TaskSource

    began = time.monotonic()
    device = "cuda" if (torch.cuda.is_available() if config.use_gpu is None else config.use_gpu) else "cpu"
    trained, task = prepared.trained, prepared.trained.task().tested()
    predictor = Predictor(trained.model(task), task, config.decoding, device)
    data = task_data(prepared.config, prepared.inputs, prepared.division)
    source = TaskSource(replace(data, labels=tuple(dict.fromkeys([*data.labels, SPEAKER]))), task)
    held = {side: source.held_out(side) for side in prepared.sides}
    for side, found in held.items():
        if not found.tickets:
            raise SettingsError(f"{prepared.inputs.dataset.uri} leaves no utterance of {side}: {dict(found.left_out)}")
    count = 0 if trained.fuser.settings.fusion == "concat" else config.examples
    shown = _examples(held, count, prepared.config.training.seed)
    columns, ids = trained.fuser.columns, {piece.utterance_id for piece in shown}
    said = {side: predictor.side(source, found.tickets, side, columns, ids) for side, found in held.items()}
    known = trained.spec.get("classes")
    numbers = figures(prepared.plan.lineage, said, held, prepared.trials, known and set(known))
    heard = hear(shown, trained.clock, prepared.inputs.manifest.roots)
    use = layer_use(trained.name, trained.fuser, said, heard, 1 / trained.clock.frame_rate)
    rows = [row for predicted in said.values() for row in predicted.rows]
    pictures = draw(numbers, use, heard)
    beside = {METRICS: card_bytes(numbers), LAYER_USE: card_bytes(use), "index.html": page(numbers, use, pictures)}
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


def _examples(held: Mapping[str, HeldOut], count: int, seed: int) -> list[Piece]:
    """Choose utterances to show, of the first side: random ones, the same in every run."""
    first: Sequence[BatchTicket] = next(iter(held.values())).tickets
    pieces = [piece for ticket in first for piece in ticket.pieces]
    return sorted(pieces, key=lambda piece: (share(seed, f"shown {piece.utterance_id}"), piece.utterance_id))[:count]


def _report(dataset: Dataset, seconds: float) -> EvaluationReport:
    found, use = read_facts(dataset)
    commit = dataset.commits()[0]
    return EvaluationReport(
        stage=KIND,
        task=found["task"],
        output=dataset.uri,
        dataset_sha256=str(success(dataset)["dataset_sha256"]),
        sides={side: {k: v for k, v in told.items() if k != "confusion"} for side, told in found["sides"].items()},
        trials=found["trials"],
        layer_use={
            side: dict(zip(use["layers"], told["all"]["mean"], strict=True)) for side, told in use["sides"].items()
        },
        reason=use["reason"],
        silent={
            example["utterance_id"]: example["recording"]["reason"]
            for example in use["examples"]
            if "recording" in example and example["recording"]["reason"] is not None
        },
        wall_seconds=seconds,
        plots=bool(commit.notes["plots"]),
    )
