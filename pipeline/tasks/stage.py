"""Train a task on tokens: an attention over layers at every time step, and the task's own network.

Reads: a tokens dataset (or features of every frame) and the manifest that it was made from. Writes: a folder with
``model.safetensors``, ``config.json`` (all that is needed to build it again), ``fuser.safetensors``, ``metrics.jsonl``
and ``tensorboard/``. Restart: from the latest checkpoint in ``_checkpoints/``, with the losses of a run that never
stopped. Memory: see ``batches/utterances.py`` and ``training/loop.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.fusion.saved import check_fuser
from pipeline.fusion.spec import FuserSpec, feature_spec, token_spec
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder
from pipeline.store.storage import absolute, open_store
from pipeline.tasks.division import Division, divide
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.training.publishing import MODEL, Trained, make_model
from pipeline.training.settings import TrainingSettings, learning_content

if TYPE_CHECKING:
    from pipeline.tasks.recipe import TaskRecipe

DATA_VERSION = 1
KIND = "task"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The datasets of a task.

    Attributes:
        manifest: With the labels.
        dataset: Tokens or features.
        fuser: How their layers become one sequence.
        clock: Frames of the encoder, as far as tokens tell.
    """

    manifest: Manifest
    dataset: Dataset
    fuser: FuserSpec
    clock: Clock


def open_inputs(config: TrainTaskConfig) -> Inputs:
    """Open the datasets of a task and refuse what does not fit.

    Raises:
        DatasetError: An input is not finished, or was not made from the manifest.
        SettingsError: A layer is not there.
    """
    data = config.data
    kind, uri = ("tokens", data.tokens) if data.tokens is not None else ("features", data.features)
    assert uri is not None
    dataset, manifest = Dataset.open(uri, kind=kind), Manifest(data.manifest)
    lineage = dataset.plan.lineage
    if dataset.plan.content.get("input_sha256") != success(manifest.dataset)["dataset_sha256"]:
        raise DatasetError(f"{uri} was made from another manifest than {data.manifest}; give the one it was made from")
    hop = lineage["hop_length"]
    clock = Clock(sample_rate=lineage["sample_rate"], hop_length=hop, receptive_field=hop)
    if kind == "tokens":
        columns = tuple(map(schema.layer_column, data.layers))
        spec = token_spec(config.fusing, lineage, columns=columns, codebooks=data.codebooks)
    else:
        spec = feature_spec(config.fusing, lineage, layers=data.layers)
    return Inputs(manifest=manifest, dataset=dataset, fuser=spec, clock=clock)


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
    kind = kind_of(config.task)
    division = divide(
        inputs.manifest,
        config.division,
        seed=config.training.seed,
        needed=(kind.label,),
        classes=() if kind.label == TEXT else (kind.label,),
        unheard=kind.unheard,
    )
    task = kind.make(config, inputs.manifest, division)
    training = _with_best(config.training, task, division)
    data = task_data(config, inputs, division, task)
    lineage = inputs.dataset.plan.lineage
    made_of = {
        "input_sha256": success(inputs.dataset)["dataset_sha256"],
        "manifest_sha256": success(inputs.manifest.dataset)["dataset_sha256"],
    }
    if config.fusing.fuser is not None:
        made_of["fuser_sha256"] = check_fuser(config.fusing.fuser, inputs.fuser).sha256
    content = {
        "data_version": DATA_VERSION,
        "task": config.task,
        **made_of,
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
