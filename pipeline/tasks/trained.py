"""A finished folder of train_task, opened: what it was trained with, its network with its weights, what it fits.

Opening needs no torch; building the network does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.errors import CodebookMismatchError, CorruptDatasetError, DatasetError, SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.settings import setting_paths
from pipeline.store.completion import success
from pipeline.store.dataset import FILES, Dataset, sha256
from pipeline.store.provenance import CONFIG as RECORDED
from pipeline.store.reading import read_committed
from pipeline.tasks.division import Division, DivisionSettings
from pipeline.tasks.kinds import KINDS
from pipeline.tasks.settings import TrainTaskConfig

if TYPE_CHECKING:
    from pipeline.tasks.recipe import TaskModel
    from pipeline.tasks.task import Task

KIND = "task"
SPEC = "config.json"


@dataclass(frozen=True, kw_only=True)
class TrainedTask:
    """A task that was trained.

    Attributes:
        dataset: Its folder.
        name: Which task: asr, sid or er.
        spec: Its ``config.json``.
        fuser: What its fuser is made for.
        clock: The encoder's frames.
        config: The settings that it was trained with.
        sha256: Of the finished folder.
    """

    dataset: Dataset
    name: str
    spec: Mapping[str, Any]
    fuser: FuserSpec
    clock: Clock
    config: TrainTaskConfig
    sha256: str

    def task(self) -> "Task":
        """Make the task again."""
        return KINDS[self.name].again(self.spec)

    def model(self, task: "Task") -> "TaskModel":
        """Build the fuser and the task's network with the trained weights, in evaluation mode.

        Raises:
            CorruptDatasetError: The weights are not those of such a network.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        from pipeline.fusion.fuser import build_fuser
        from pipeline.tasks.recipe import TaskModel

        fuser = build_fuser(self.fuser)
        model = TaskModel(fuser, task.head(fuser.dim))
        try:
            model.load_state_dict(load(read_committed(self.dataset, self.dataset.plan.units[0])))
        except (RuntimeError, SafetensorError) as error:
            raise CorruptDatasetError(
                f"{self.dataset.uri} holds other weights than its {SPEC} says ({error}); train it again"
            ) from error
        return model.eval()


def open_trained(uri: str) -> TrainedTask:
    """Open a finished folder of train_task.

    Raises:
        DatasetError: It is something else, or not finished.
        CorruptDatasetError: Its description is damaged.
    """
    dataset = Dataset.open(uri, kind=KIND)
    commit = dataset.read_commit(dataset.plan.units[0])
    try:
        data = dataset.store.read(SPEC)
    except FileNotFoundError:
        raise CorruptDatasetError(f"{dataset.uri} has no {SPEC}; restore it or train again elsewhere") from None
    if commit is None or commit.notes.get(FILES, {}).get(SPEC) != sha256(data):
        raise CorruptDatasetError(
            f"{dataset.uri}/{SPEC} is not what was committed; restore it or train again elsewhere"
        )
    spec = json.loads(data)
    if spec["task"] not in KINDS:
        raise DatasetError(f"{dataset.uri} is of the task {spec['task']}; there are {', '.join(KINDS)}")
    fuser = spec["fuser"]
    return TrainedTask(
        dataset=dataset,
        name=spec["task"],
        spec=spec,
        fuser=FuserSpec(
            **{**fuser, "columns": tuple(fuser["columns"]), "settings": FusionSettings(**fuser["settings"])}
        ),
        clock=Clock(**spec["clock"]),
        config=_recorded(dataset),
        sha256=str(success(dataset)["dataset_sha256"]),
    )


def _recorded(dataset: Dataset) -> TrainTaskConfig:
    """Read the settings of a run, and see that its sides are those of the plan, which nobody changes."""
    try:
        settings = json.loads(dataset.store.read(RECORDED))["settings"]
        paths = setting_paths(TrainTaskConfig).items()
        # A setting that came after the run has its default.
        flat = {name: _at(settings, path) for name, path in paths if _there(settings, path)}
        config = TrainTaskConfig.of(**flat)
    except (FileNotFoundError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise DatasetError(
            f"{dataset.uri}/{RECORDED} does not say how it was trained ({error!r}), and so which utterances it was not "
            "trained on; restore it or train again elsewhere"
        ) from error
    content, flat = dataset.plan.content, config.flat()
    names = [*setting_paths(DivisionSettings), "seed"]
    if other := [name for name in names if name in content and _plain(flat[name]) != _plain(content[name])]:
        raise DatasetError(
            f"{dataset.uri}/{RECORDED} says another {', '.join(other)} than its plan; restore it, or train again"
        )
    return config


def _at(settings: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = settings
    for step in path:
        value = value[step]
    return tuple(value) if isinstance(value, list) else value


def _there(settings: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = settings
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return False
        value = value[step]
    return True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def check_fits(trained: TrainedTask, dataset: Dataset) -> None:
    """Refuse tokens or features that a trained task was not made for.

    Raises:
        SettingsError: They are of the other kind, or lack a layer.
        CodebookMismatchError: They are of another encoder, of other codebooks, or of another K.
    """
    if dataset.plan.kind != trained.fuser.kind:
        raise SettingsError(
            f"{trained.dataset.uri} was trained on {trained.fuser.kind}, {dataset.uri} holds {dataset.plan.kind}"
        )
    check_lineage(trained, dataset.plan.lineage, dataset.uri)


def check_lineage(trained: TrainedTask, lineage: Mapping[str, Any], uri: str) -> None:
    """Refuse tokens or features that a trained task was not made for, by what is known of them.

    Args:
        trained: The task.
        lineage: Of the tokens or features.
        uri: Where they are, for the message.

    Raises:
        SettingsError: They lack a layer.
        CodebookMismatchError: They are of another encoder, of other codebooks, or of another K.
    """
    fuser = trained.fuser
    there = list(lineage["num_clusters"]) if fuser.kind == "tokens" else _layers(lineage)
    if absent := [name for name in fuser.columns if name not in there]:
        raise SettingsError(f"{trained.dataset.uri} reads {', '.join(fuser.columns)}; {uri} lacks {', '.join(absent)}")
    differences = []
    if lineage["encoder_sha256"] != fuser.encoder_sha256:
        differences.append(f"encoder {fuser.encoder_sha256[:12]} there, {lineage['encoder_sha256'][:12]} here")
    if fuser.kind == "features" and lineage["dim"] != fuser.dim:
        differences.append(f"width {fuser.dim} there, {lineage['dim']} here")
    for name in fuser.columns if fuser.kind == "tokens" else ():
        sizes = fuser.num_clusters[name], lineage["num_clusters"][name]
        books = fuser.codebook_sha256[name], lineage["codebooks"][name]
        if sizes[0] != sizes[1]:
            differences.append(f"K of {name} {sizes[0]} there, {sizes[1]} here")
        if books[0] != books[1]:
            differences.append(f"codebook of {name} {books[0][:12]} there, {books[1][:12]} here")
    if differences:
        raise CodebookMismatchError(
            f"{uri} is not of the kind that {trained.dataset.uri} was trained on: {'; '.join(differences)}; "
            "give tokens of the same encoder and codebooks"
        )


def _layers(lineage: Mapping[str, Any]) -> list[str]:
    return [schema.layer_column(layer) for layer in lineage["layers"]]


def refuse_strangers(trained: TrainedTask, manifest: Manifest, division: Division, sides: Sequence[str]) -> None:
    """Refuse sides with classes that were never trained.

    Raises:
        SettingsError: There are some; each is named with the number of its utterances.
    """
    label = KINDS[trained.name].label
    known = trained.spec.get("classes")
    if known is None:
        return
    for side in sides:
        there = division.facts[side].values[label]
        counts = dict(zip(there.values, there.counts, strict=True))
        if new := [f"{name!a:.80} ({counts[name]} utterances)" for name in there.values if name not in known]:
            told = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            raise SettingsError(
                f"{manifest.dataset.uri}: {side} has {label} {told}, which {trained.dataset.uri} was never trained on; "
                f"it knows {len(known)}. Evaluate on a manifest without them"
            )
