"""The tasks that there are, by name. Imports no torch before one is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.audio.loading import Manifest
from pipeline.tasks.division import Division
from pipeline.tasks.settings import TrainTaskConfig

if TYPE_CHECKING:
    from pipeline.tasks.task import Task

TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A task that can be trained.

    Attributes:
        label: Column of the manifest that it predicts.
        unheard: Whether it is judged by speakers that training never heard.
        crop_seconds: Crop of each utterance in training, seconds, where nothing else is asked for; None: all of it.
        make: Makes it for a corpus, from the settings and the labels that are there.
        again: Makes it again from what ``Task.to_json`` gave.
    """

    label: str
    unheard: bool
    crop_seconds: float | None
    make: "Callable[[TrainTaskConfig, Manifest, Division], Task]"
    again: "Callable[[dict[str, Any]], Task]"
