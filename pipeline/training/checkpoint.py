"""Checkpoints of a training run in a store, local or S3: plain safetensors, and a mark that says it is whole.

    _checkpoints/step-00000500/NAME.safetensors        per state: a network, ``ema.NETWORK``, ``optimizer.PHASE``
    _checkpoints/step-00000500/rows.SET.jsonl          rows of a validation set, where it was validated at that step
    _checkpoints/step-00000500/state.json              written last: step, cursor, history, SHA-256 of all of them

A folder without its ``state.json``, or with files of another hash, is passed over. Ray Train's own checkpoints are not
used: one S3 error while they upload ends a run (ray #47939), and they have no such mark (ray #41700).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline import faults
from pipeline.errors import CheckpointError
from pipeline.store.dataset import sha256
from pipeline.store.storage import Store
from pipeline.training.progress import CHECKPOINTS, Progress
from pipeline.training.recipe import Row

logger = logging.getLogger(__name__)

STATE = "state.json"
_TENSORS, _ROWS = ".safetensors", ".jsonl"
Json = Any
Aliases = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint, read and verified.

    Attributes:
        progress: How far the run had come.
        states: Tensors by the name of the state they belong to.
        rows: Rows by the name of the validation set.
    """

    progress: Progress
    states: Mapping[str, Mapping[str, torch.Tensor]]
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def weights(self, network: str) -> Mapping[str, torch.Tensor]:
        """Give the tensors of a network: their average where the run keeps one, else the weights themselves."""
        average = self.states.get(f"ema.{network}")
        if average is None:
            return self.states[network]
        prefix = "module."
        return {name.removeprefix(prefix): t for name, t in average.items() if name.startswith(prefix)}


def folder_of(step: int) -> str:
    """Name the folder of the checkpoint after a number of steps."""
    return f"{CHECKPOINTS}/step-{step:08d}"


def file_of(state: str) -> str:
    """Name the file of a state."""
    return f"{state}{_TENSORS}"


def save_checkpoint(
    store: Store,
    progress: Progress,
    states: Mapping[str, Mapping[str, torch.Tensor]],
    rows: Mapping[str, Sequence[Row]] | None = None,
) -> None:
    """Write a checkpoint; it counts when its last file is there.

    Tensors that share memory, as tied weights do, are written once.
    """
    folder = folder_of(progress.step)
    hashes: dict[str, str] = {}
    shared: dict[str, Aliases] = {}
    for name, tensors in states.items():
        kept, shared[name] = _once(tensors)
        hashes[file_of(name)] = _write(store, folder, file_of(name), save(kept))
        faults.point(f"after_checkpoint_{name.split('.')[0]}", folder)
    for name, each in (rows or {}).items():
        lines = "".join(f"{json.dumps(dict(row), sort_keys=True)}\n" for row in each)
        hashes[f"rows.{name}{_ROWS}"] = _write(store, folder, f"rows.{name}{_ROWS}", lines.encode())
    state = {"progress": asdict(progress), "shared": {name: found for name, found in shared.items() if found}}
    hashes[STATE] = _state_sha256(state)
    state["sha256"] = hashes
    store.write(f"{folder}/{STATE}", json.dumps(state, sort_keys=True).encode())
    faults.point("after_checkpoint_state", folder)


def _write(store: Store, folder: str, name: str, data: bytes) -> str:
    store.write(f"{folder}/{name}", data)
    return sha256(data)


def _once(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Aliases]:
    """Give each tensor under its first name, on the CPU, and the further names of those that have several."""
    first: dict[tuple[object, ...], str] = {}
    kept, aliases = {}, {}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        # A view of other memory is copied: safetensors refuses two that overlap.
        kept[name] = tensor.cpu().contiguous() if whole else tensor.cpu().contiguous().clone()
    return kept, aliases


def _state_sha256(state: Json) -> str:
    return sha256(json.dumps(state, sort_keys=True).encode())


def steps_saved(store: Store) -> list[int]:
    """Give the steps of all whole checkpoints, ascending; hashes are looked at when one is read."""
    paths = [name.split("/") for name in store.tree(CHECKPOINTS)]
    folders = {path[1] for path in paths if len(path) == 3 and path[2] == STATE}
    return sorted(int(folder.removeprefix("step-")) for folder in folders)


def latest_checkpoint(store: Store) -> Checkpoint | None:
    """Read the latest checkpoint whose files are what was written, None where there is none."""
    for step in reversed(steps_saved(store)):
        try:
            return read_checkpoint(store, step)
        except CheckpointError as error:
            logger.warning("%s; the one before it is taken", error)
    return None


def latest(store: Store) -> int | None:
    """Give the step of the latest checkpoint whose files are what was written, None where there is none."""
    found = latest_checkpoint(store)
    return None if found is None else found.progress.step


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
        if _state_sha256(state) != hashes.pop(STATE):
            raise CheckpointError(f"checkpoint {where}/{STATE} is not what was written (sha256 differs)")
        files = {}
        for name, digest in hashes.items():
            files[name] = store.read(f"{folder}/{name}")
            if sha256(files[name]) != digest:
                raise CheckpointError(f"checkpoint {where}/{name} is not what was written (sha256 differs)")
        return _opened(state, files)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {where} is damaged: {error}") from error


def _opened(state: Json, files: Mapping[str, bytes]) -> Checkpoint:
    states, rows = {}, {}
    for name, data in files.items():
        if name.endswith(_TENSORS):
            label = name.removesuffix(_TENSORS)
            tensors = load(data)
            states[label] = tensors | {alias: tensors[of] for alias, of in state["shared"].get(label, {}).items()}
        else:
            rows[name.removeprefix("rows.").removesuffix(_ROWS)] = [json.loads(line) for line in data.splitlines()]
    return Checkpoint(progress=Progress.from_json(state["progress"]), states=states, rows=rows)


def published(store: Store) -> Checkpoint:
    """Read the checkpoint that a finished run publishes: the best, or the last where no metric names a best.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    last = latest_checkpoint(store)
    if last is None:
        raise CheckpointError(f"{store.uri} has no whole checkpoint; run the same command to train again")
    step = last.progress.published_step
    return last if step == last.progress.step else read_checkpoint(store, step)


def keep(store: Store, *, latest: int, best: int | None, upto: int) -> None:
    """Remove all whole checkpoints but the latest ones and the best.

    Args:
        store: The run's folder.
        latest: How many of the latest stay.
        best: Step of the best; None where there is none.
        upto: The step just saved. Those of later steps were damaged, or training would have gone on from there: they
            do not count.
    """
    for step in [step for step in steps_saved(store) if step <= upto][:-latest]:
        if step != best:
            # The mark goes first, so that what is half removed counts no more.
            store.delete([f"{folder_of(step)}/{STATE}"])
            store.delete_tree(folder_of(step))
