"""Train a task on tokens: an attention over layers at every time step, and the task's own network.

Reads: a tokens dataset (or features of every frame) and the manifest that it was made from. Writes: a folder with
``model.safetensors``, ``config.json`` (all that is needed to build it again), ``fuser.safetensors``, ``metrics.jsonl``
and ``tensorboard/``. Restart: from the latest checkpoint in ``_checkpoints/``, with the losses of a run that never
stopped. Memory: see ``batches/utterances.py`` and ``training/loop.py``.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.storage import absolute, open_store
from pipeline.tasks.division import Division, divide
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.training.publishing import MODEL
from pipeline.training.settings import learning_content

DATA_VERSION = 1
KIND = "task"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The datasets of a task.

    Attributes:
        manifest: With the labels.
        dataset: Tokens or features.
        columns: Names of the layers, as ``layer_03``.
        clock: Frames of the encoder, as far as tokens tell.
    """

    manifest: Manifest
    dataset: Dataset
    columns: tuple[str, ...]
    clock: Clock


def open_inputs(config: TrainTaskConfig) -> Inputs:
    """Open the datasets of a task and refuse what does not fit.

    Raises:
        DatasetError: An input is not finished, or was not made from the manifest.
        SettingsError: A layer is not there.
    """
    kind, uri = ("tokens", config.tokens) if config.tokens is not None else ("features", config.features)
    assert uri is not None
    dataset, manifest = Dataset.open(uri, kind=kind), Manifest(config.manifest)
    lineage = dataset.plan.lineage
    if lineage["input_sha256"] != success(manifest.dataset)["dataset_sha256"]:
        raise DatasetError(f"{uri} was made from another manifest than {config.manifest}; give the one it was made from")
    there = tuple(lineage["num_clusters"]) if kind == "tokens" else tuple(map(schema.layer_column, lineage["layers"]))
    columns = tuple(map(schema.layer_column, config.layers)) if config.layers else there
    if absent := [name for name in columns if name not in there]:
        raise SettingsError(f"{uri} has no {', '.join(absent)}; it has {', '.join(there)}")
    hop = lineage["hop_length"]
    clock = Clock(sample_rate=lineage["sample_rate"], hop_length=hop, receptive_field=hop)
    return Inputs(manifest=manifest, dataset=dataset, columns=columns, clock=clock)


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """What the driver knows before Ray starts.

    Attributes:
        plan: The run's plan.
        make_recipe: Gives the recipe, which needs torch.
        spec: All that is needed to build the trained network again, as plain JSON values.
        division: The sides of the manifest.
    """

    plan: Plan
    make_recipe: Callable[[], "TaskRecipe"]
    spec: Mapping[str, Any]
    division: Division

    @cached_property
    def recipe(self) -> "TaskRecipe":
        """What the task gives the training loop."""
        return self.make_recipe()
