"""A finished folder of ``train_task --task se``, opened: what it hears and what it says. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.tasks.se.targets import TargetLayer, trained_targets
from pipeline.tasks.trained import TrainedTask, open_trained

ENHANCEMENT = "se"
"""Where a tokenizer's folder holds its enhancement: ``train_task --task se --output FOLDER/se`` puts it there."""


@dataclass(frozen=True, kw_only=True)
class TrainedEnhancement:
    """A task that was trained to enhance tokens.

    Attributes:
        trained: The task.
        targets: The layers that it says.
    """

    trained: TrainedTask
    targets: tuple[TargetLayer, ...]

    @property
    def said(self) -> Mapping[str, Any]:
        """What a tokens dataset would say of the tokens that it gives: encoder and codebooks."""
        return {
            "encoder_sha256": self.trained.fuser.encoder_sha256,
            "codebooks": {target.column: target.codebook_sha256 for target in self.targets},
            "num_clusters": {target.column: target.num_clusters for target in self.targets},
        }


def open_enhancement(uri: str) -> TrainedEnhancement:
    """Open a finished folder of a task that enhances tokens.

    Raises:
        CorruptDatasetError: Its description is damaged.
        DatasetError: It is something else, or not finished.
        SettingsError: It is of another task, or hears features.
    """
    trained = open_trained(uri)
    if trained.name != "se":
        raise SettingsError(
            f"{trained.dataset.uri} is of the task {trained.name}; enhancement needs one of the task se"
        )
    if trained.fuser.kind != "tokens":
        raise SettingsError(f"{trained.dataset.uri} was trained on features, and enhancement hears tokens")
    return TrainedEnhancement(trained=trained, targets=trained_targets(trained.spec))
