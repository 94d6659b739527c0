"""What a worker of extract_features does: the waveforms of a shard in, the rows of a features file out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import schema
from pipeline.audio.loading import open_manifest
from pipeline.features.feature_file import FeatureFile
from pipeline.features.passes.extractor import FeaturePiece
from pipeline.features.passes.shards import ShardEncoder
from pipeline.features.samples.hashing import last_hash_of, sampled_frames
from pipeline.features.samples.manifest_sample import ManifestSample, stratum_values
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.store.dataset import Output, Plan
from pipeline.store.storage import open_store
from pipeline.work.units import Utterance, rejects_table

MAX_CELL_BYTES = 2**30


"""A longer cell becomes several rows: Parquet refuses cells of 2 GB."""


class FeatureMaker:
    """Turns the utterances of a shard into the rows of a features file."""

    stage = "features"

    def __init__(self, config: ExtractFeaturesConfig, device: str, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._encoder = ShardEncoder(
            config.encoding, config.manifest, device, self.stage, plan.lineage["encoder_sha256"]
        )
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
        columns = schema.features(sorted(self._config.encoding.layers), sampled=self._sampled)
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

    def _rows(self, utterance_id: str, piece: FeaturePiece, last_hash: int | None) -> list[dict[str, Any]]:
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
