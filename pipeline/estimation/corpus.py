"""What a manifest means for an encoder: frames, tokens, bytes and arithmetic, counted from the lengths of its rows.

One pass over two columns of the manifest. Padding and the size of token files are taken from a few shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.audio.batching import pad_waste, plan_batches
from pipeline.audio.loading import Manifest, decoded_lengths
from pipeline.features.encoders.flops import encoder_gflop
from pipeline.features.encoders.info import EncoderInfo
from pipeline.features.passes.settings import EncodingSettings, encoding_lineage
from pipeline.features.passes.windows import Windowing
from pipeline.store.dataset import parquet_bytes

_SAMPLED_SHARDS = 16


@dataclass(frozen=True, kw_only=True)
class KeptFrames:
    """How many frames a features dataset keeps.

    Attributes:
        fraction: Share of the frames, about.
        frames: Number of them, exactly; None where the share says it.
    """

    fraction: float = 1.0
    frames: int | None = None

    def of(self, num_frames: int) -> int:
        """Give the frames kept of a corpus."""
        return round(self.fraction * num_frames) if self.frames is None else min(self.frames, num_frames)


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """Size of a corpus as an encoder sees it.

    Attributes:
        audio_hours: Hours that will be encoded.
        utterances: Rows that will be encoded.
        left_out: Rows that are too short or too long.
        shards: Shards.
        num_frames: Frames of all of them.
        num_tokens: Frames times layers and their residual stages.
        features_frames: Frames that a features dataset keeps: all of them, or those of the sample asked for.
        features_bytes: Bytes of its cells.
        tokens_bytes: Bytes of a tokens dataset; 0 when the sizes of its codebooks are not known.
        gflop: Arithmetic of the encoder without padding, 10^9 operations.
        overlap: Share of encoded audio that is margins of windows.
        padding: Share of what the encoder computes that is padding, by batch budget in seconds.
    """

    audio_hours: float
    utterances: int
    left_out: int
    shards: int
    num_frames: int
    num_tokens: int
    features_frames: int
    features_bytes: int
    tokens_bytes: int
    gflop: float
    overlap: float
    padding: dict[float, float]


def corpus_size(
    manifest: Manifest,
    config: EncodingSettings,
    info: EncoderInfo,
    network: Any,
    *,
    num_clusters: Mapping[str, int] | None = None,
    budgets: Sequence[float] = (),
    sample: KeptFrames | None = None,
) -> CorpusSize:
    """Count what a manifest means for an encoder.

    Args:
        manifest: The manifest.
        config: Settings of the pass.
        info: The encoder.
        network: Its configuration; None for ``mfcc``.
        num_clusters: K by column of tokens; none when only features are wanted.
        budgets: Batch budgets whose padding is wanted, seconds.
        sample: What features keep; None for every frame.
    """
    scanned = manifest.scan(manifest.length_columns)
    lengths = {unit: decoded_lengths(rows, info.sample_rate) for unit, rows in scanned}
    every = np.concatenate([np.zeros(0, np.int64), *lengths.values()])
    fits = (every >= info.receptive_field) & (every <= config.max_utterance_seconds * info.sample_rate)
    kept = every[fits]
    frames = info.clock.frame_counts(kept)
    num_frames = int(frames.sum())
    features_frames = sample.of(num_frames) if sample is not None else num_frames
    windowing = Windowing.of(info, window_seconds=config.window_seconds, margin_seconds=config.window_margin_seconds)
    limit = windowing.num_samples
    tokens_bytes = 0
    if num_clusters:
        tokens_bytes = _tokens_bytes(frames, len(lengths), config, info, num_clusters)
    return CorpusSize(
        audio_hours=float(kept.sum()) / info.sample_rate / 3600,
        utterances=len(kept),
        left_out=len(every) - len(kept),
        shards=len(lengths),
        num_frames=num_frames,
        num_tokens=num_frames * len(num_clusters or config.layers),
        features_frames=features_frames,
        features_bytes=features_frames * len(config.layers) * info.dim * 2,
        tokens_bytes=tokens_bytes,
        gflop=_gflop(kept, limit, network, max(config.layers)),
        overlap=_overlap(kept, windowing),
        padding={budget: _padding(lengths, info, limit, budget) for budget in budgets},
    )


def _gflop(lengths: np.ndarray, limit: int, network: Any, top_layer: int) -> float:
    """Sum over a histogram of lengths in tenths of a second: a count for each of 10^9 rows would take hours."""
    step = 1_600
    pieces = np.minimum(lengths, limit)
    total = 0.0
    for tenth in np.unique(pieces // step):
        chosen = pieces // step == tenth
        mean = int(pieces[chosen].mean())
        share = float(lengths[chosen].sum()) / max(1, mean)
        total += encoder_gflop(network, top_layer=top_layer, num_samples=mean) * share
    return total


def _overlap(lengths: np.ndarray, windowing: Windowing) -> float:
    long = lengths[lengths > windowing.num_samples]
    if not len(long):
        return 0.0
    step = (windowing.window_frames - 2 * windowing.margin_frames) * windowing.clock.hop_length
    windows = np.ceil((long - 2 * windowing.margin_frames * windowing.clock.hop_length) / step)
    encoded = float(windows.sum()) * windowing.num_samples
    short = float(lengths[lengths <= windowing.num_samples].sum())
    return max(0.0, 1 - float(lengths.sum()) / (encoded + short))


def _padding(lengths: dict[str, np.ndarray], info: EncoderInfo, limit: int, budget: float) -> float:
    units = list(lengths)
    chosen = units[:: max(1, len(units) // _SAMPLED_SHARDS)]
    computed = useful = 0.0
    for unit in chosen:
        found = lengths[unit]
        whole = found[(found >= info.receptive_field) & (found <= limit)].tolist()
        batches = plan_batches(
            whole, max_batch_samples=max(1, round(budget * info.sample_rate)), equal_lengths=not info.can_pad
        )
        waste = pad_waste(whole, batches)
        useful += sum(whole)
        computed += sum(whole) / (1 - waste)
    return 1 - useful / computed if computed else 0.0


def _tokens_bytes(
    frames: np.ndarray, shards: int, config: EncodingSettings, info: EncoderInfo, num_clusters: Mapping[str, int]
) -> int:
    """Write a shard of average size with random tokens: random ones compress least, real ones a little more."""
    rng = np.random.default_rng(0)
    chosen = frames[: max(1, round(len(frames) / max(1, shards)))]
    columns: dict[str, Any] = {
        "utterance_id": [f"utterance-{row:08d}-of-a-corpus" for row in range(len(chosen))],
        "num_frames": pa.array(chosen, pa.int32()),
    }
    for column, size in num_clusters.items():
        values = rng.integers(0, size, int(chosen.sum())).astype(np.uint16)
        offsets = np.concatenate([[0], np.cumsum(chosen)]).astype(np.int32)
        columns[column] = pa.ListArray.from_arrays(offsets, pa.array(values))
    blank = "0" * 64
    lineage = encoding_lineage(config, info, blank)
    lineage["codebooks"] = dict.fromkeys(num_clusters, blank)
    lineage["num_clusters"] = dict(num_clusters)
    written = len(parquet_bytes(pa.table(columns).cast(schema.tokens(list(num_clusters))), lineage))
    return round(written * float(frames.sum()) / max(1, int(chosen.sum())))
