"""What enhancement is to say: tokens of the clean recordings. Found and checked on the driver; loads no torch.

Reads: the clean tokens' lineage, and both manifests once. Memory: about 300 bytes per clean recording.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.batches.clean import CLEAN, check_clean
from pipeline.batches.pieces import PieceSettings
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset
from pipeline.tasks.settings import TaskDataSettings, TrainTaskConfig

logger = logging.getLogger(__name__)

CLEAN_URI = CLEAN
"""Column of the manifest that names the clean recording."""


@dataclass(frozen=True, kw_only=True)
class TargetLayer:
    """A layer that is predicted.

    Attributes:
        column: Its name, as ``layer_07``.
        num_clusters: K.
        codebook_sha256: SHA-256 of its codebook.
    """

    column: str
    num_clusters: int
    codebook_sha256: str


@dataclass(frozen=True, kw_only=True)
class CleanInputs:
    """The clean side of a corpus of pairs.

    Attributes:
        manifest: Of the clean recordings.
        dataset: Their tokens.
        noisy_columns: The layers that are fused, of the noisy side.
        targets: The layers that are predicted.
    """

    manifest: Manifest
    dataset: Dataset
    noisy_columns: tuple[str, ...]
    targets: tuple[TargetLayer, ...]

    def content(self) -> dict[str, Any]:
        """Give what a plan's content key holds of it."""
        return {
            "clean_sha256": success(self.dataset)["dataset_sha256"],
            "clean_manifest_sha256": success(self.manifest.dataset)["dataset_sha256"],
        }

    def pieces(self, clock: Clock) -> PieceSettings:
        """Say what is read of it: the target layers of whole utterances."""
        return PieceSettings(
            manifest=self.manifest.dataset.uri,
            clock=clock,
            tokens=self.dataset.uri,
            columns=tuple(target.column for target in self.targets),
            max_seconds=None,
        )


def trained_targets(spec: Mapping[str, Any]) -> tuple[TargetLayer, ...]:
    """Give the layers that a trained task predicts, from its ``config.json``."""
    return tuple(TargetLayer(**target) for target in spec["targets"])


def open_clean(data: TaskDataSettings, trained: tuple[TargetLayer, ...] = ()) -> CleanInputs:
    """Open the clean tokens of a task that enhances, and choose the layers that it predicts.

    Args:
        data: Names the datasets and, with ``target_layers``, the layers; else they are those that are fused.
        trained: What a task was trained to predict, where it is evaluated.

    Raises:
        CodebookMismatchError: The clean tokens are of another encoder, or of other codebooks than the noisy ones or
            than those that the task was trained to predict.
        DatasetError: A dataset is not finished, or the tokens were made from another manifest.
        SettingsError: The clean tokens lack a layer.
    """
    assert data.clean_tokens is not None
    assert data.clean_manifest is not None
    noisy = Dataset.open(data.tokens or data.features or "")
    fused = noisy.plan.lineage.get("num_clusters") or map(schema.layer_column, noisy.plan.lineage["layers"])
    noisy_columns = tuple(map(schema.layer_column, data.layers)) or tuple(fused)
    dataset, manifest = Dataset.open(data.clean_tokens, kind="tokens"), Manifest(data.clean_manifest)
    manifest.check_made(dataset)
    lineage = dataset.plan.lineage
    asked = tuple(map(schema.layer_column, data.target_layers)) or noisy_columns
    columns = tuple(target.column for target in trained) or asked
    there = lineage["num_clusters"]
    if absent := [column for column in columns if column not in there]:
        how = "" if data.target_layers else "; --target-layers says which layers are predicted"
        raise SettingsError(f"{dataset.uri} has the layers {', '.join(there)}, not {', '.join(absent)}{how}")
    targets = tuple(
        TargetLayer(column=column, num_clusters=int(there[column]), codebook_sha256=lineage["codebooks"][column])
        for column in columns
    )
    _check_alike(dataset, targets, noisy)
    _check_trained(dataset, targets, trained)
    return CleanInputs(manifest=manifest, dataset=dataset, noisy_columns=noisy_columns, targets=targets)


def _check_alike(clean: Dataset, targets: tuple[TargetLayer, ...], noisy: Dataset) -> None:
    """Refuse clean tokens that do not mean what the noisy ones mean."""
    here, there = clean.plan.lineage, noisy.plan.lineage
    told = []
    if here["encoder_sha256"] != there["encoder_sha256"]:
        told.append(f"encoder {there['encoder_sha256'][:12]} there, {here['encoder_sha256'][:12]} here")
    sizes, books = there.get("num_clusters", {}), there.get("codebooks", {})
    for target in targets:
        if sizes.get(target.column, target.num_clusters) != target.num_clusters:
            told.append(f"K of {target.column} {sizes[target.column]} there, {target.num_clusters} here")
        book = books.get(target.column, target.codebook_sha256)
        if book != target.codebook_sha256:
            told.append(f"codebook of {target.column} {book[:12]} there, {target.codebook_sha256[:12]} here")
    if told:
        raise CodebookMismatchError(
            f"{clean.uri} holds other tokens than {noisy.uri}: {'; '.join(told)}; tokenise both sides with one encoder "
            "and the same codebooks"
        )


def _check_trained(clean: Dataset, targets: tuple[TargetLayer, ...], trained: tuple[TargetLayer, ...]) -> None:
    told = [
        f"codebook of {there.column} {there.codebook_sha256[:12]} there, {here.codebook_sha256[:12]} here"
        for there, here in zip(trained, targets, strict=bool(trained))
        if there != here
    ]
    if told:
        raise CodebookMismatchError(
            f"{clean.uri} does not hold the tokens that the task was trained to predict: {'; '.join(told)}; give those "
            "of the same codebooks"
        )


def open_pairs(
    config: TrainTaskConfig, noisy: Manifest, clock: Clock, trained: tuple[TargetLayer, ...] = ()
) -> CleanInputs | None:
    """Open the clean side of a task that enhances; None for other tasks.

    Pairs of unequal length and clean recordings that are not there are refused; how many have no partner is told.

    Args:
        config: Names the datasets.
        noisy: The manifest with ``clean_uri``.
        clock: The encoder's frames.
        trained: What a task was trained to predict, where it is evaluated.

    Raises:
        CodebookMismatchError: The clean tokens are of another encoder, or of other codebooks than the noisy ones or
            than those that the task was trained to predict.
        DatasetError: A dataset is not finished, or the tokens were made from another manifest.
        SettingsError: A clean recording is not there, is several utterances, or has another number of frames, or there
            is no ``clean_uri``.
    """
    if config.task != "se":
        return None
    clean = open_clean(config.data, trained)
    lineage = clean.dataset.plan.lineage
    # The last frame hears more than a hop, so recordings of equal hops may differ by a frame.
    heard = replace(clock, receptive_field=lineage.get("receptive_field", clock.receptive_field))
    if without := check_clean(noisy, clean.manifest, heard):
        logger.warning(
            "%s has %d utterances without a clean_uri; they are left out, and the report counts them",
            noisy.dataset.uri,
            without,
        )
    return clean
