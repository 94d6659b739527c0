"""Train a task on tokens: an attention over layers at every time step, and the task's own network.

Reads: a tokens dataset (or features of every frame) and the manifest that it was made from. Writes: a folder with
``model.safetensors``, ``config.json`` (all that is needed to build it again), ``fuser.safetensors``, ``metrics.jsonl``
and ``tensorboard/``. Restart: from the latest checkpoint in ``_checkpoints/``, with the losses of a run that never
stopped. Memory: see ``batches/utterances.py`` and ``training/loop.py``; the driver reads the manifest once and holds a
count per side of each speaker, emotion or character (for a BPE, of each word).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.batches.pools import REASONS
from pipeline.batches.sides import VALIDATION
from pipeline.errors import SettingsError
from pipeline.fusion.saved import check_fuser
from pipeline.fusion.spec import FuserSpec, feature_spec, read_centroids, token_spec
from pipeline.store.completion import success
from pipeline.store.dataset import FILES, Dataset, Output, Plan, check_folder, sha256
from pipeline.store.storage import open_store
from pipeline.tasks.division import Division, divide
from pipeline.tasks.kinds import KINDS
from pipeline.tasks.report import TaskReport, report_of
from pipeline.tasks.se.targets import CleanInputs, open_pairs
from pipeline.tasks.settings import TaskDataSettings, TrainTaskConfig
from pipeline.tasks.trained import KIND, SPEC
from pipeline.training.progress import METRICS, history_lines
from pipeline.training.publishing import MODEL, Trained, make_model, weights_bytes
from pipeline.training.settings import TrainingSettings, learning_content

if TYPE_CHECKING:
    from pipeline.tasks.recipe import TaskRecipe
    from pipeline.tasks.source import TaskData
    from pipeline.tasks.task import Task

DATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The datasets of a task.

    Attributes:
        manifest: With the labels.
        dataset: Tokens or features.
        fuser: How their layers become one sequence.
        clock: Frames of the encoder, as far as tokens tell.
        clean: Tokens of the clean recordings, for a task that enhances; None for others.
    """

    manifest: Manifest
    dataset: Dataset
    fuser: FuserSpec
    clock: Clock
    clean: CleanInputs | None = None


def open_datasets(data: TaskDataSettings) -> tuple[Manifest, Dataset]:
    """Open a manifest, and the tokens or features that were made from it.

    Raises:
        DatasetError: One is not finished, or they were made from another manifest.
    """
    kind, uri = ("tokens", data.tokens) if data.tokens is not None else ("features", data.features)
    assert uri is not None
    dataset, manifest = Dataset.open(uri, kind=kind), Manifest(data.manifest)
    manifest.check_made(dataset)
    return manifest, dataset


def open_inputs(config: TrainTaskConfig) -> Inputs:
    """Open the datasets of a task and refuse what does not fit.

    Raises:
        CodebookMismatchError: Clean tokens are of another encoder, or of other codebooks than the noisy ones.
        DatasetError: An input is not finished, or was not made from the manifest.
        SettingsError: A layer is not there, or a clean recording is absent or of another length.
    """
    data = config.data
    manifest, dataset = open_datasets(data)
    lineage = dataset.plan.lineage
    hop = lineage["hop_length"]
    clock = Clock(sample_rate=lineage["sample_rate"], hop_length=hop, receptive_field=hop)
    if data.tokens is not None:
        columns = tuple(map(schema.layer_column, data.layers))
        spec = token_spec(config.fusing, lineage, columns=columns, codebooks=data.codebooks)
    else:
        spec = feature_spec(config.fusing, lineage, layers=data.layers)
    clean = open_pairs(config, manifest, clock)
    return Inputs(manifest=manifest, dataset=dataset, fuser=spec, clock=clock, clean=clean)


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """What the driver knows before Ray starts.

    Attributes:
        plan: The run's plan.
        training: How to train, with the task's own metric for the best.
        make_recipe: Gives the recipe, which needs torch.
        spec: All that is needed to build the trained network again, as plain JSON values.
        division: The sides of the manifest.
    """

    plan: Plan
    training: TrainingSettings
    make_recipe: Callable[[], "TaskRecipe"]
    spec: Mapping[str, Any]
    division: Division

    @cached_property
    def recipe(self) -> "TaskRecipe":
        """What the task gives the training loop."""
        return self.make_recipe()


def prepare(config: TrainTaskConfig) -> PreparedTask:
    """Plan the run and refuse what cannot be trained. Needs neither Ray nor torch.

    Raises:
        DatasetError: An input is not finished, or the tokens were not made from the manifest.
        SettingsError: A layer, label or class is not there, or the sides do not fit the task.
        PlanMismatchError: The output folder was made with other settings.
    """
    inputs = open_inputs(config)
    division = divided(config, inputs.manifest)
    task = KINDS[config.task].make(config, inputs.manifest, division)
    training = _with_best(config.training, task, division)
    data = task_data(config, inputs, division)
    lineage = inputs.dataset.plan.lineage
    made_of = {
        "input_sha256": success(inputs.dataset)["dataset_sha256"],
        "manifest_sha256": success(inputs.manifest.dataset)["dataset_sha256"],
    }
    if config.fusing.fuser is not None:
        made_of["fuser_sha256"] = check_fuser(config.fusing.fuser, inputs.fuser).sha256
    elif config.fusing.embedding_init == "centroids":
        read_centroids(inputs.fuser)
    content = {
        "data_version": DATA_VERSION,
        "task": config.task,
        **made_of,
        **({} if inputs.clean is None else inputs.clean.content()),
        "layers": list(inputs.fuser.columns),
        **{name: value for name, value in config.fusing.flat().items() if name != "fuser"},
        **_learned_from(config),
        **task.to_json(),
        **learning_content(training, config.optimizer),
    }
    plan = Plan(
        kind=KIND,
        content=content,
        lineage={
            "kind": KIND,
            "schema_version": schema.SCHEMA_VERSION,
            **content,
            "encoder": lineage["encoder"],
            "encoder_sha256": lineage["encoder_sha256"],
            "codebooks": dict(inputs.fuser.codebook_sha256),
        },
        units=[MODEL],
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    recipe = partial(_recipe, config, data, task, inputs.fuser)
    return PreparedTask(
        plan=plan, training=training, make_recipe=recipe, spec=_spec(config, inputs, task), division=division
    )


def divided(config: TrainTaskConfig, manifest: Manifest, *, trained: bool = False) -> Division:
    """Divide a manifest as a task is trained and judged; see ``divide``.

    Args:
        config: Settings of the training.
        manifest: The manifest.
        trained: Whether the task is made already, so that no parts of labels are counted for it.

    Raises:
        SettingsError: The sides do not fit the task.
    """
    kind = KINDS[config.task]
    return divide(
        manifest,
        config.division,
        seed=config.training.seed,
        label=kind.label,
        parts=None if kind.parts is None else () if trained else kind.parts(config),
        unheard=kind.unheard,
    )


def _with_best(training: TrainingSettings, task: "Task", division: Division) -> TrainingSettings:
    """Let the task's own metric say which weights are the best, where nothing else is asked for."""
    if VALIDATION not in division.sides.held_out:
        if training.best_by is not None:
            raise SettingsError(f"best_by {training.best_by} needs utterances to validate on: give --valid-fraction")
        return replace(training, validate_every=0)
    training.check_validated(VALIDATION)
    if training.best_by is not None or not training.validate_every:
        return training
    return replace(training, best_by=f"{VALIDATION}_{task.best_by}", best_order=task.best_order)


def task_data(config: TrainTaskConfig, inputs: Inputs, division: Division) -> "TaskData":
    """Say what a source reads and how it cuts it."""
    from pipeline.tasks.source import TaskData

    data, clock, kind = config.data, inputs.clock, KINDS[config.task]
    crop = data.crop_seconds if data.crop_seconds is not None else kind.crop_seconds
    rate = clock.sample_rate
    tokens = data.tokens is not None
    return TaskData(
        manifest=data.manifest,
        tokens=data.tokens,
        columns=inputs.fuser.columns if tokens else (),
        features=data.features,
        layers=() if tokens else tuple(int(name.removeprefix("layer_")) for name in inputs.fuser.columns),
        clock=clock,
        sides=division.sides,
        labels=tuple(dict.fromkeys([kind.label, *kind.also(config), *division.sides.columns])),
        seed=config.training.seed,
        max_samples=int(data.batch_seconds * rate),
        crop_frames=None if crop is None else max(1, clock.num_frames(int(crop * rate))),
        longest=clock.num_frames(int(data.max_seconds * rate)),
        min_frames=data.min_frames,
        shuffle_hours=data.shuffle_hours,
        valid_minutes=data.valid_minutes,
        clean=None if inputs.clean is None else inputs.clean.pieces(clock),
    )


def _learned_from(config: TrainTaskConfig) -> dict[str, Any]:
    """Give the settings of data and sides that weights depend on."""
    data = config.data.flat()
    elsewhere = ("manifest", "tokens", "features", "codebooks", "layers")
    for name in (*elsewhere, "clean_tokens", "clean_manifest", "target_layers"):
        data.pop(name)
    return {**data, **{name: list(v) if isinstance(v, tuple) else v for name, v in config.division.flat().items()}}


def _spec(config: TrainTaskConfig, inputs: Inputs, task: "Task") -> dict[str, Any]:
    """Give all that is needed to build the trained network again."""
    fuser = asdict(inputs.fuser)
    # The weights hold what it began with.
    fuser["settings"] |= {"fuser": None, "freeze_fuser": False, "embedding_init": "random"}
    fuser["codebooks"] = None
    return {"task": config.task, **task.to_json(), "fuser": fuser, "clock": asdict(inputs.clock)}


def _recipe(config: TrainTaskConfig, data: "TaskData", task: "Task", fuser: FuserSpec) -> "TaskRecipe":
    from pipeline.tasks.recipe import TaskRecipe

    return TaskRecipe(data=data, task=task, fuser=fuser, optimizer=config.optimizer)


def train_task(config: TrainTaskConfig) -> TaskReport:
    """Train a fuser and a task's network on tokens, and write them as a folder.

    Source: Mousavi et al. 2024, How Should We Extract Discrete Audio Tokens from Self-Supervised Models?, arXiv
    2406.10735.

    Raises:
        DatasetError: The tokens were not made from the manifest.
        SettingsError: A layer, label or class is not there, or the sides do not fit the task.
        TrainingError: A loss is not finite, or workers were lost too often.
        PlanMismatchError: The output folder was made with other settings.
    """
    config = config.located()
    prepared = prepare(config)

    def publish(dataset: Dataset, trained: Trained) -> Output:
        return _published(dataset, prepared, trained)

    made = make_model(config, config.output, prepared.plan, lambda: prepared.recipe, prepared.training, publish)
    return report_of(made.dataset, made.workers, made.seconds)


def _published(dataset: Dataset, prepared: PreparedTask, trained: Trained) -> Output:
    """Write what the network is made of and its fuser, and give its weights and what they tell of themselves."""
    from pipeline.fusion.saved import NAME, fuser_bytes
    from pipeline.tasks.recipe import NETWORK

    progress = trained.progress
    tensors = trained.checkpoint.weights(NETWORK)
    fuser = {name.removeprefix("fuser."): t for name, t in tensors.items() if name.startswith("fuser.")}
    files = {
        METRICS: history_lines(progress),
        SPEC: (json.dumps(prepared.spec, indent=2, sort_keys=True) + "\n").encode(),
        NAME: fuser_bytes(prepared.recipe.fuser, fuser),
    }
    for name, data in files.items():
        dataset.store.write(name, data)
    best = [line for line in progress.history if line["step"] == progress.published_step]
    metrics = {name: value for line in best for name, value in line.items() if name.startswith(f"{VALIDATION}_")}
    return Output(
        data=weights_bytes(tensors),
        rows=sum(tensor.numel() for tensor in tensors.values()),
        seconds=0.0,
        notes={
            "metrics": metrics,
            "step": progress.published_step,
            "ended": progress.ended or "steps",
            "steps": progress.step,
            "utterances": progress.amount,
            "left_out": {name: progress.cursor[name] for name in REASONS if progress.cursor.get(name)},
            FILES: {name: sha256(data) for name, data in files.items()},
        },
    )
