"""Extract features: a manifest in, the chosen layers of every utterance out, or of a sample of its frames.

Reads: a manifest and its recordings. Writes: a features dataset, ``utterance_id, first_frame, num_frames,
[frame_index,] layer_07, ...`` with float16 (T, D) cells; for ``sample_frames`` also ``_strata.parquet``, chosen from
the manifest before Ray starts (see ``manifest_sample``). Restart: shards without a commit are done, others not.
Memory: a shard's waveforms in the decode task and the actor, and its features once in the actor; 30 minutes of
audio are at most 115 MB of waveform and, for 5 layers of 1,024, 920 MB of features. A longer recording makes its shard
larger: its waveform is streamed, its features are whole in memory, so keep a sample of its frames.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.audio.loading import Manifest
from pipeline.features.encoders.info import EncoderInfo
from pipeline.features.passes.settings import (
    encoding_content,
    encoding_lineage,
    remark_small_batches,
    shard_loader,
)
from pipeline.features.samples.manifest_sample import ManifestSample, choose_frames
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import MakerFactory
from pipeline.work.worker_shape import WorkerShape

logger = logging.getLogger(__name__)


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
    encoder = config.encoding.describe()
    manifest = Manifest(config.manifest)
    input_sha256 = success(manifest.dataset)["dataset_sha256"]
    sample = _sample(config, manifest, encoder)
    sampling = _sampling(config, sample)
    plan = Plan(
        kind="features",
        content=encoding_content(config.encoding, encoder, input_sha256) | sampling,
        lineage=encoding_lineage(config.encoding, encoder, input_sha256) | {"kind": "features"} | sampling,
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
        max_seconds=config.encoding.max_utterance_seconds,
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
        ManifestError: Something is passed over, and the manifest was built with ``strict``.
        PlanMismatchError: The output folder was made with other settings.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be used.
    """
    config = config.located()
    prepared = prepare(config)
    plan = prepared.plan
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    if prepared.sample is not None:
        prepared.sample.write(dataset.store)

    def factory(shape: WorkerShape) -> MakerFactory:
        from pipeline.features.makers import FeatureMaker

        remark_small_batches(config.encoding, shape.device)
        return partial(FeatureMaker, config, shape.device, plan)

    report = run_stage(
        dataset,
        load=shard_loader(config.encoding, config.manifest, prepared.encoder),
        factory=factory,
        choice=config.work.choice(plan.totals["seconds"]),
        placement=config.encoding.placement,
        numerics_mode=config.encoding.numerics,
        max_reject_fraction=config.encoding.decoding.max_reject_fraction,
        redo_rejects=config.encoding.decoding.redo_rejects,
        strict=Manifest(config.manifest).strict,
    )
    return replace(report, frames_asked=config.sample_frames)
