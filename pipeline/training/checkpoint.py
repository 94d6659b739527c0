"""Checkpoints of a training run in a store, local or S3: plain safetensors, and a mark that says it is whole.

    _checkpoints/step-00000500/model.safetensors       weights, float32
    _checkpoints/step-00000500/optimizer.safetensors   AdamW's moments
    _checkpoints/step-00000500/state.json              written last: step, cursor, history, SHA-256 of all three

A folder without its ``state.json``, or with files of another hash, is passed over. Ray Train's own checkpoints are not
used: one S3 error while they upload ends a run (ray #47939), and they have no such mark (ray #41700).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline import faults
from pipeline.errors import CheckpointError
from pipeline.store.dataset import sha256
from pipeline.store.storage import Store

logger = logging.getLogger(__name__)

FOLDER = "_checkpoints"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
Json = Any


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: Steps done.
        cursor: Where its data go on.
        audio_seconds: Audio that it has learned from, over all workers.
        history: What was logged: one dictionary a line, with ``step``.
    """

    step: int = 0
    cursor: Json = None
    audio_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint, read and verified."""

    progress: Progress
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]


def folder_of(step: int) -> str:
    """Name the folder of the checkpoint after a number of steps."""
    return f"{FOLDER}/step-{step:08d}"


def save_checkpoint(
    store: Store, progress: Progress, model: Mapping[str, torch.Tensor], optimizer: Mapping[str, torch.Tensor]
) -> None:
    """Write a checkpoint; it counts when its last file is there."""
    folder = folder_of(progress.step)
    hashes = {}
    for name, tensors in ((MODEL, model), (OPTIMIZER, optimizer)):
        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        store.write(f"{folder}/{name}", data)
        hashes[name] = sha256(data)
        faults.point(f"after_checkpoint_{name.split('.')[0]}", folder)
    state = asdict(progress)
    hashes[STATE] = _state_sha256(state)
    state["sha256"] = hashes
    store.write(f"{folder}/{STATE}", json.dumps(state, sort_keys=True).encode())
    faults.point("after_checkpoint_state", folder)


def _state_sha256(state: Json) -> str:
    return sha256(json.dumps(state, sort_keys=True).encode())


def steps_saved(store: Store) -> list[int]:
    """Give the steps of all whole checkpoints, ascending; hashes are looked at when one is read."""
    paths = [name.split("/") for name in store.tree(FOLDER)]
    folders = {path[1] for path in paths if len(path) == 3 and path[2] == STATE}
    return sorted(int(folder.removeprefix("step-")) for folder in folders)


def latest(store: Store) -> int | None:
    """Give the step of the latest checkpoint whose files are what was written, None where there is none."""
    for step in reversed(steps_saved(store)):
        try:
            read_checkpoint(store, step)
        except CheckpointError as error:
            logger.warning("%s; the one before it is taken", error)
        else:
            return step
    return None


def read_checkpoint(store: Store, step: int) -> Checkpoint:
    """Read the checkpoint after a number of steps.

    Raises:
        CheckpointError: It is not whole, or damaged.
    """
    folder = folder_of(step)
    where = f"{store.uri}/{folder}"
    try:
        state = json.loads(store.read(f"{folder}/{STATE}"))
        hashes = state.pop("sha256")
        if _state_sha256(state) != hashes[STATE]:
            raise CheckpointError(f"checkpoint {where}/{STATE} is not what was written (sha256 differs)")
        progress = Progress(**state)
        tensors = []
        for name in (MODEL, OPTIMIZER):
            data = store.read(f"{folder}/{name}")
            if sha256(data) != hashes[name]:
                raise CheckpointError(f"checkpoint {where}/{name} is not what was written (sha256 differs)")
            tensors.append(load(data))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {where} is damaged: {error}") from error
    return Checkpoint(progress=progress, model=tensors[0], optimizer=tensors[1])


def keep_latest(store: Store, count: int, *, upto: int) -> None:
    """Remove all whole checkpoints but the latest ones.

    Args:
        store: The run's folder.
        count: How many stay.
        upto: The step just saved. Those of later steps were damaged, or training would have gone on from there: they
            do not count.
    """
    for step in [step for step in steps_saved(store) if step <= upto][:-count]:
        # The mark goes first, so that what is half removed counts no more.
        store.delete([f"{folder_of(step)}/{STATE}"])
        store.delete_tree(folder_of(step))
