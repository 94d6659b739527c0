"""What every stage that trains a model does: plan, train, publish one file of weights, remove what training needed."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import DatasetError
from pipeline.store.commits import Commit
from pipeline.store.completion import finish, unless_finished
from pipeline.store.dataset import SUCCESS, Dataset, Output, Plan
from pipeline.store.provenance import record_settings
from pipeline.training.progress import CHECKPOINTS, PROGRESS, RAY_FOLDER, Progress
from pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch

    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.recipe import Recipe

logger = logging.getLogger(__name__)

MODEL = "model"
"""The one unit of a dataset that is a trained model."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gave.

    Attributes:
        progress: Where the run ended, with its history.
        checkpoint: The weights to publish: the best, or the last where no metric names a best.
    """

    progress: Progress
    checkpoint: "Checkpoint"


@dataclass(frozen=True, kw_only=True)
class MadeModel:
    """A finished dataset that is a trained model.

    Attributes:
        dataset: It.
        workers: How the run lay on the cluster.
        seconds: Time that this run took.
    """

    dataset: Dataset
    workers: str
    seconds: float


def model_commit(dataset: Dataset) -> Commit:
    """Give the commit of a finished model.

    Raises:
        DatasetError: It has none.
    """
    commit = dataset.read_commit(MODEL)
    if commit is None:
        raise DatasetError(f"{dataset.uri} has {SUCCESS} and no commit; restore the folder or train again elsewhere")
    return commit


def weights_bytes(tensors: Mapping[str, "torch.Tensor"]) -> bytes:
    """Give the content of ``model.safetensors``."""
    from safetensors.torch import save

    # transformers refuses a file that does not say where it is from; lineage goes into config.json, because several
    # keys of this header come in random order.
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})


def make_model(
    config: Any,
    output: str,
    plan: Plan,
    recipe: Callable[[], "Recipe"],
    settings: TrainingSettings,
    publish: Callable[[Dataset, Trained], Output],
) -> MadeModel:
    """Train and publish, as far as it is not done.

    Args:
        config: The stage's settings, for the record.
        output: Folder of the dataset, local or s3://.
        plan: Its plan; ``MODEL`` is its one unit.
        recipe: Gives networks, data and losses; asked where there is something left to train.
        settings: How to train.
        publish: Writes what lies beside the weights, and gives the weights' bytes; it may run again after a kill.

    Raises:
        PipelineError: What training raised.
        PlanMismatchError: The folder was made with other settings.
    """
    began = time.monotonic()
    dataset = Dataset.create(output, plan)
    record_settings(dataset.store, config)
    workers = "no worker, all was there"
    if not dataset.store.exists(SUCCESS):
        with unless_finished(dataset):
            workers = _train(dataset, recipe, settings, publish)
    # A run killed before this leaves them to the same command.
    for folder in (CHECKPOINTS, RAY_FOLDER):
        dataset.store.delete_tree(folder)
    dataset.store.delete([PROGRESS])
    return MadeModel(dataset=dataset, workers=workers, seconds=time.monotonic() - began)


def _train(
    dataset: Dataset,
    recipe: Callable[[], "Recipe"],
    settings: TrainingSettings,
    publish: Callable[[Dataset, Trained], Output],
) -> str:
    """Train and publish; say how the run lay on the cluster."""
    # Not at the top: a run with nothing left to do needs neither Ray nor torch.
    from pipeline.features.numerics import numerics_key
    from pipeline.training.checkpoint import published
    from pipeline.training.launch import shape_of, train

    shape = shape_of(settings)
    logger.info("training on %s", shape)
    progress = train(recipe(), settings, dataset.uri, shape=shape, stage=dataset.plan.kind)
    given = publish(dataset, Trained(progress=progress, checkpoint=published(dataset.store)))
    device = "cuda" if shape.use_gpu else "cpu"
    dataset.commit(MODEL, dataset.announce(MODEL), given, numerics_key(device))
    finish(dataset)
    return str(shape)
