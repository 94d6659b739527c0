"""A finished folder of ``train_task --task tts``, opened: what it writes. Needs no torch."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import SettingsError
from pipeline.tasks.trained import TrainedTask, open_trained

TTS = "tts"
"""Where a tokenizer's folder holds its text to speech: ``train_task --task tts --output FOLDER/tts`` puts it there."""


def open_tts(uri: str) -> TrainedTask:
    """Open a finished folder of a text to speech.

    Raises:
        CorruptDatasetError: Its description is damaged.
        DatasetError: It is something else, or not finished.
        SettingsError: It is of another task.
    """
    trained = open_trained(uri)
    if trained.name != TTS:
        raise SettingsError(f"{uri} is of the task {trained.name}; speak needs one of tts")
    return trained


def written_lineage(trained: TrainedTask) -> Mapping[str, Any]:
    """Give what a tokens dataset would say of the tokens that a text to speech writes: encoder and codebooks."""
    fuser = trained.fuser
    return {
        "encoder_sha256": fuser.encoder_sha256,
        "codebooks": dict(fuser.codebook_sha256),
        "num_clusters": dict(fuser.num_clusters),
    }
