"""Extract features: a manifest in, the chosen layers of every utterance out, or of a sample of its frames.

Reads: a manifest and its recordings. Writes: a features dataset, ``utterance_id, first_frame, num_frames,
[frame_index,] layer_07, ...`` with float16 (T, D) cells; for ``sample_frames`` also ``_strata.parquet``, chosen from
the manifest before Ray starts (see ``manifest_sample``). Restart: shards without a commit are done, others not.
Memory: a shard's waveforms in the decode task and the actor, and its features once in the actor; 30 minutes of
audio are at most 115 MB of waveform and, for 5 layers of 1,024, 920 MB of features. A longer recording makes its shard
larger: its waveform is streamed, its features are whole in memory, so keep a sample of its frames.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pipeline import schema
from pipeline.audio.loading import Manifest, open_manifest
from pipeline.errors import SettingsError
from pipeline.features.encoders.info import EncoderInfo
from pipeline.features.feature_file import FeatureFile
from pipeline.features.passes.extractor import Piece
from pipeline.features.passes.settings import (
    EncodingConfig,
    encoding_content,
    encoding_lineage,
    located,
    remark_small_batches,
    shard_loader,
)
from pipeline.features.passes.shards import ShardEncoder
from pipeline.features.samples.hashing import last_hash_of, sampled_frames
from pipeline.features.samples.manifest_sample import ManifestSample, choose_frames, stratum_values
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.work.executor import cluster_shape, run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import Utterance, rejects_table

logger = logging.getLogger(__name__)

MAX_CELL_BYTES = 2**30
"""A longer cell becomes several rows: Parquet refuses cells of 2 GB."""


@dataclass(frozen=True, kw_only=True)
class ExtractFeaturesConfig(EncodingConfig):
    """Settings of extract_features."""

    manifest: str
    """Manifest dataset, local or s3://."""
    output: str
    """Folder of the features dataset, local or s3://."""
    sample_fraction: float = 1.0
    """Share of frames to keep, chosen by a hash of (seed, utterance id, frame); 1 keeps every frame."""
    sample_frames: int | None = None
    """Frames to keep, exactly, those of smallest hash over the whole manifest; more than there are keeps every one."""
    stratify_by: str | None = None
    """Column of the manifest, as speaker or language, whose values get equal shares of --sample-frames; values with
    fewer frames give all of theirs, and the others share what that leaves. Utterances without a value are one more."""
    seed: int = 0
    """Seed of the choice of frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise SettingsError("layers must name at least one layer, as --layers 7 12")
        if not 0 < self.sample_fraction <= 1:
            raise SettingsError(f"sample_fraction must be in (0, 1], got {self.sample_fraction}")
        if self.sample_frames is not None and self.sample_frames < 1:
            raise SettingsError(f"sample_frames must be at least 1, got {self.sample_frames}")
        if self.sample_frames is not None and self.sample_fraction < 1:
            raise SettingsError(
                f"sample_frames {self.sample_frames} and sample_fraction {self.sample_fraction:g} are two sizes of one "
                "sample; give one of them"
            )
        if self.stratify_by is not None and self.sample_frames is None:
            raise SettingsError("stratify_by shares sample_frames out over a column; give --sample-frames too")
        check_stratify_by(self.stratify_by)


def check_stratify_by(column: str | None) -> None:
    """Refuse a column that no manifest has.

    Raises:
        SettingsError: The message names the columns there are.
    """
    if column is not None and column not in schema.MANIFEST.names:
        raise SettingsError(
            f"stratify_by must be a column of the manifest ({', '.join(schema.MANIFEST.names)}), got {column!r}"
        )


@dataclass(frozen=True, kw_only=True)
class PreparedFeatures:
    """What the driver knows before Ray starts: the plan, the encoder, and for ``sample_frames`` what is kept."""

    plan: Plan
    encoder: EncoderInfo
    sample: ManifestSample | None


def prepare(config: ExtractFeaturesConfig) -> PreparedFeatures:
    """Plan the features dataset and refuse a folder that holds another one. Needs no Ray.

    Raises:
        EncoderError: The encoder cannot be used as asked.
        DatasetError: The manifest is not finished.
        PlanMismatchError: The output folder was made with other settings.
    """
    encoder = config.describe()
    manifest = Manifest(config.manifest)
    input_sha256 = success(manifest.dataset)["dataset_sha256"]
    sample = _sample(config, manifest, encoder)
    sampling = _sampling(config, sample)
    plan = Plan(
        kind="features",
        content=encoding_content(config, encoder, input_sha256) | sampling,
        lineage=encoding_lineage(config, encoder, input_sha256) | {"kind": "features"} | sampling,
        units=manifest.units,
        totals={"rows": manifest.num_rows, "seconds": manifest.seconds},
    )
    check_folder(open_store(config.output), plan)
    return PreparedFeatures(plan=plan, encoder=encoder, sample=sample)


def _sample(config: ExtractFeaturesConfig, manifest: Manifest, encoder: EncoderInfo) -> ManifestSample | None:
    """Choose the frames of a sample of exact size; None where that is all of them, or another sample is wanted."""
    if config.sample_frames is None:
        return None
    sample = choose_frames(
        manifest,
        encoder,
        size=config.sample_frames,
        stratify_by=config.stratify_by,
        seed=config.seed,
        max_seconds=config.max_utterance_seconds,
    )
    logger.info(
        "sample: %s of %s frames%s, %s stratum(s)",
        f"{sample.sample_frames:,}",
        f"{sample.num_frames:,}",
        ", every one" if sample.whole else "",
        f"{sample.strata.num_rows:,}",
    )
    return None if sample.whole else sample


def _sampling(config: ExtractFeaturesConfig, sample: ManifestSample | None) -> dict[str, Any]:
    """Give what a plan says of the frames kept; their strata, which may be many, by their hash."""
    if sample is not None:
        return {
            "sample_fraction": sample.sample_frames / sample.num_frames,
            "sample_frames": config.sample_frames,
            "stratify_by": config.stratify_by,
            "strata_sha256": sample.sha256,
            "seed": config.seed,
        }
    sampled = config.sample_fraction < 1
    return {"sample_fraction": config.sample_fraction, "seed": config.seed if sampled else None}


def extract_features(config: ExtractFeaturesConfig) -> StageReport:
    """Write the chosen layers of every utterance of a manifest.

    Raises:
        EncoderError: The encoder cannot be used as asked.
        PlanMismatchError: The output folder was made with other settings.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be used.
    """
    config = located(config)
    prepared = prepare(config)
    plan = prepared.plan
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    if prepared.sample is not None:
        prepared.sample.write(dataset.store)
    shape = cluster_shape(config.placement)
    remark_small_batches(config, shape.device)
    report = run_stage(
        dataset,
        load=shard_loader(config, config.manifest, prepared.encoder),
        factory=partial(FeatureMaker, config, shape.device, plan),
        shape=shape,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
    )
    return replace(report, frames_asked=config.sample_frames)


class FeatureMaker:
    """Turns the utterances of a shard into the rows of a features file."""

    stage = "features"

    def __init__(self, config: ExtractFeaturesConfig, device: str, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._encoder = ShardEncoder(config, config.manifest, device, self.stage, plan.lineage["encoder_sha256"])
        # A sample that was asked for may have turned out to be every frame: the plan says.
        self._sampled = "strata_sha256" in plan.lineage or config.sample_fraction < 1
        self._strata: ManifestSample | None = None
        if "strata_sha256" in plan.lineage:
            self._strata = ManifestSample.read(open_store(config.output), plan.lineage["strata_sha256"])

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return self._encoder.numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Encode a shard and lay its features out as Parquet."""
        columns = schema.features(sorted(self._config.layers), sampled=self._sampled)
        file = FeatureFile(columns, self._plan.lineage)
        shard = self._encoder.open(utterances)
        found: set[int] = set()
        last_hash = self._last_hashes(unit, utterances)
        for piece in shard:
            utterance_id = utterances[piece.row].utterance_id
            rows = self._rows(utterance_id, piece, last_hash[utterance_id])
            # Of a window of which no frame was sampled nothing is kept, unless it is the utterance's first.
            if piece.row not in found or rows[0]["num_frames"]:
                file.add(piece.row, rows)
            found.add(piece.row)
        kept = found - shard.rejects.keys()
        data, num_frames = file.finish(shard.rejects)
        return Output(
            data=data,
            rows=len(kept),
            rejects=rejects_table(shard.rejected),
            seconds=sum(utterances[row].seconds for row in sorted(kept)),
            num_frames=num_frames,
            notes=shard.notes(),
            work=(shard.work(),),
        )

    def _last_hashes(self, unit: str, utterances: Sequence[Utterance]) -> Mapping[str, int | None]:
        """Give the highest hash that is kept of each utterance of a shard."""
        strata, column = self._strata, self._config.stratify_by
        if strata is not None and column is not None:
            rows = open_manifest(self._config.manifest).rows(unit)
            values = stratum_values(rows, column)
            return dict(zip(rows["utterance_id"].to_pylist(), map(strata.last_hash.__getitem__, values), strict=True))
        one = last_hash_of(self._config.sample_fraction) if strata is None else strata.last_hash[None]
        return dict.fromkeys((utterance.utterance_id for utterance in utterances), one)

    def _rows(self, utterance_id: str, piece: Piece, last_hash: int | None) -> list[dict[str, Any]]:
        """Give a piece's rows: one, or several where a cell would grow past 1 GiB."""
        total, dim = next(iter(piece.features.values())).shape
        kept = sampled_frames(self._config.seed, utterance_id, total, last_hash, first_frame=piece.first_frame)
        step = MAX_CELL_BYTES // (2 * dim)
        rows: list[dict[str, Any]] = []
        for start in range(0, max(1, len(kept)), step):
            frames = kept[start : start + step]
            rows.append(
                {
                    "utterance_id": utterance_id,
                    "first_frame": int(frames[0]) if len(frames) else piece.first_frame,
                    "num_frames": len(frames),
                    "frame_index": frames,
                    **{
                        schema.layer_column(layer): _cell(array, frames - piece.first_frame, total)
                        for layer, array in piece.features.items()
                    },
                }
            )
        return rows


def _cell(array: np.ndarray, frames: np.ndarray, total: int) -> bytes:
    """Lay frames of (T, D) features out as little-endian float16."""
    chosen = array if len(frames) == total else array[frames]
    return chosen.astype("<f2", copy=False).tobytes()
