"""Extract features: a manifest in, the chosen layers of every utterance out, or of a sample of its frames.

Reads: a manifest and its recordings. Writes: a features dataset, ``utterance_id, first_frame, num_frames,
[frame_index,] layer_07, ...`` with float16 (T, D) cells. Restart: shards without a commit are done, others not.
Memory: a shard's waveforms in the decode task and the actor, and its features once in the actor; 30 minutes of
audio are at most 115 MB of waveform and, for 5 layers of 1,024, 920 MB of features. A longer recording makes its shard
larger: its waveform is streamed, its features are whole in memory, so keep a sample of its frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.completion import success
from pipeline.dataset import Dataset, Output, Plan, check_folder
from pipeline.errors import SettingsError
from pipeline.executor import cluster_shape, run_stage
from pipeline.features.encoder_info import EncoderInfo
from pipeline.features.encoding import (
    EncodingConfig,
    encoding_content,
    encoding_lineage,
    located,
    remark_small_batches,
    shard_loader,
)
from pipeline.features.extractor import Piece
from pipeline.features.feature_file import FeatureFile
from pipeline.features.sampling import sampled_frames
from pipeline.features.shard_encoder import ShardEncoder
from pipeline.provenance import record_settings
from pipeline.reporting import StageReport
from pipeline.shards import Utterance, rejects_table
from pipeline.storage import open_store

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
    seed: int = 0
    """Seed of the choice of frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise SettingsError("layers must name at least one layer, as --layers 7 12")
        if not 0 < self.sample_fraction <= 1:
            raise SettingsError(f"sample_fraction must be in (0, 1], got {self.sample_fraction}")

    @property
    def sampled(self) -> bool:
        """Whether only a sample of the frames is kept."""
        return self.sample_fraction < 1


def prepare(config: ExtractFeaturesConfig) -> tuple[Plan, EncoderInfo]:
    """Plan the features dataset and refuse a folder that holds another one. Needs no Ray.

    Raises:
        EncoderError: The encoder cannot be used as asked.
        DatasetError: The manifest is not finished.
        PlanMismatchError: The output folder was made with other settings.
    """
    encoder = config.describe()
    manifest = Manifest(config.manifest)
    input_sha256 = success(manifest.dataset)["dataset_sha256"]
    sampling = {"sample_fraction": config.sample_fraction, "seed": config.seed if config.sampled else None}
    plan = Plan(
        kind="features",
        content=encoding_content(config, encoder, input_sha256) | sampling,
        lineage=encoding_lineage(config, encoder, input_sha256) | {"kind": "features"} | sampling,
        units=manifest.units,
        totals={"rows": manifest.num_rows, "seconds": manifest.seconds},
    )
    check_folder(open_store(config.output), plan)
    return plan, encoder


def extract_features(config: ExtractFeaturesConfig) -> StageReport:
    """Write the chosen layers of every utterance of a manifest.

    Raises:
        EncoderError: The encoder cannot be used as asked.
        PlanMismatchError: The output folder was made with other settings.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be used.
    """
    config = located(config)
    plan, encoder = prepare(config)
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    shape = cluster_shape(config.placement)
    remark_small_batches(config, shape.device)
    return run_stage(
        dataset,
        load=shard_loader(config, config.manifest, encoder),
        factory=partial(FeatureMaker, config, shape.device, plan),
        shape=shape,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
    )


class FeatureMaker:
    """Turns the utterances of a shard into the rows of a features file."""

    stage = "features"

    def __init__(self, config: ExtractFeaturesConfig, device: str, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._encoder = ShardEncoder(config, config.manifest, device, self.stage, plan.lineage["encoder_sha256"])

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return self._encoder.numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Encode a shard and lay its features out as Parquet."""
        columns = schema.features(sorted(self._config.layers), sampled=self._config.sampled)
        file = FeatureFile(columns, self._plan.lineage)
        shard = self._encoder.open(utterances)
        found: set[int] = set()
        for piece in shard:
            rows = self._rows(utterances[piece.row].utterance_id, piece)
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

    def _rows(self, utterance_id: str, piece: Piece) -> list[dict[str, Any]]:
        """Give a piece's rows: one, or several where a cell would grow past 1 GiB."""
        total, dim = next(iter(piece.features.values())).shape
        kept = np.arange(piece.first_frame, piece.first_frame + total, dtype=np.int32)
        if self._config.sampled:
            kept = sampled_frames(
                self._config.seed, utterance_id, total, self._config.sample_fraction, first_frame=piece.first_frame
            )
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
